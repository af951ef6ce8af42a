"""What tests in the browser share: steps of a user, pictures, and the contrast of what is shown."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

ROOT = Path(__file__).parents[3]
SHOTS = Path(__file__).parent / "shots"


@dataclass(frozen=True)
class Served:
    """A running dashboard and the folder of its runs."""

    url: str
    runs: Path


# The contrast of each visible text with what is behind it; canvas, disabled and see-through pieces
# are left out, and the number above a slider's thumb, which is part of the thumb.
LOW_CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(
      v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * x + .7152 * y + .0722 * z; };
  const over = (top, under) => {
    const a = top[3] / 255;
    return [0, 1, 2].map(i => top[i] * a + under[i] * (1 - a)).concat(255); };
  const behind = node => {
    const layers = [];
    for (; node; node = node.parentElement)
      layers.push(rgba(getComputedStyle(node).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 255]); };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !node.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (node.closest('[disabled], script, style, svg, canvas, table, ' +
      '[data-testid=stSliderThumbValue]')) continue;
    if (getComputedStyle(node).fontFamily.includes('Material')) continue;
    const back = behind(node), style = getComputedStyle(node);
    const front = over(rgba(style.color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5))
      low.push(`${ratio.toFixed(2)} ${text.slice(0, 40)}`);
  }
  return low;
}"""


def settle(page: Page) -> None:
    """Wait until the script has run and its pieces are drawn.

    Streamlit fetches the code of each kind of piece when it is first needed and shows a grey block
    meanwhile, also after the script has ended: such a button is not there yet, and its key does
    nothing.
    """
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")
    page.wait_for_timeout(300)


def open_page(page: Page, served: Served, path: str = "", **query: str) -> None:
    page.goto(
        f"{served.url}/{path}?" + "&".join(f"{name}={value}" for name, value in query.items())
    )
    page.wait_for_selector("h1")
    settle(page)


def shoot(page: Page, name: str) -> None:
    """A picture of the whole page, which is left as far down as it was."""
    size = page.viewport_size
    assert size
    height, top = page.evaluate(
        "(({scrollHeight, scrollTop}) => [scrollHeight, "
        "scrollTop])(document.querySelector('[data-testid=stMain]'))"
    )
    page.set_viewport_size(
        {"width": size["width"], "height": min(max(height, size["height"]), 4000)}
    )
    page.wait_for_timeout(400)
    page.screenshot(path=SHOTS / f"{name}.png")
    page.set_viewport_size(size)
    page.evaluate("top => document.querySelector('[data-testid=stMain]').scrollTo(0, top)", top)


def chosen(page: Page) -> str:
    """The id of the error that is shown."""
    return page.locator("[data-turnover=error]").get_attribute("data-id") or ""


def click_row(page: Page, row: int) -> None:
    """Click on a row of the table, which is a canvas."""
    table = page.get_by_test_id("stDataFrame")
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box
    page.mouse.click(box["x"] + 100, box["y"] + 36 + 35 * row + 15)


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()
    settle(page)


def open_tray(page: Page) -> None:
    """Open what was decided, at the top of every page."""
    page.locator(".st-key-tray button").click()
    settle(page)


def try_own(page: Page, text: str = "", file: tuple[str, bytes] | None = None) -> None:
    """Ask about a text or a file (name, content) of one's own."""
    page.get_by_role("button", name="Try your own").click()
    if text:
        page.get_by_label("Your text").fill(text)
    if file:
        upload = page.locator("input[type=file]")
        mime = "image/png" if file[0].endswith("png") else "text/plain"
        upload.set_input_files({"name": file[0], "mimeType": mime, "buffer": file[1]})
        expect(page.get_by_text(file[0], exact=True).last).to_be_visible()
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_role("button", name="Explain")).to_have_count(0)


def first_card(page: Page) -> Locator:
    return page.locator("[data-turnover=teacher]").first


def expect_error(page: Page, place: str) -> None:
    """Wait until the error at a place of its list, as in "2 / 8", is shown, and named."""
    expect(page.locator(".at")).to_have_text(place)
    expect(page.locator("[data-turnover=error]")).to_have_count(1)
    expect(page).to_have_url(re.compile(f"item={chosen(page)}"))


# The first screen of Errors, seen through the component's shadow root. Words of ours are those with
# letters that are neither in the list nor data: texts, names of classes, causes and runs, ids.
FIRST_SCREEN = """() => {
  const pieces = [], seen = {words: [], boxes: {}, pictures: []};
  const walk = node => {
    if (node.nodeType === Node.TEXT_NODE) pieces.push(node);
    if (node.nodeType === Node.ELEMENT_NODE) {
      const {display, visibility} = getComputedStyle(node);
      if (display === 'none' || visibility === 'hidden') return;
      pieces.push(node);
    }
    for (const child of (node.shadowRoot || node).childNodes) walk(child);
  };
  walk(document.querySelector('[data-testid=stMain]'));
  const box = node => {
    const {top, bottom, left, right} = node.getBoundingClientRect();
    return [top >= 0 && left >= 0 && right <= innerWidth, bottom]; };
  for (const node of pieces.filter(piece => piece.dataset?.turnover)) {
    const [inside, bottom] = box(node);
    (seen.boxes[node.dataset.turnover] ||= []).push(inside ? Math.round(bottom) : 1e6);
  }
  for (const node of pieces.filter(piece => piece.classList?.contains('picture')))
    seen.pictures.push([
      node.clientWidth, node.clientHeight, getComputedStyle(node).imageRendering]);
  for (const node of pieces) {
    if (node.dataset?.turnover === 'teacher') break;
    const parent = node.nodeType === Node.TEXT_NODE && node.parentElement;
    if (!parent || parent.closest('.rows, .text, .chip, .id, .run, style, script')) continue;
    if (getComputedStyle(parent).fontFamily.includes('Material')) continue;
    if (parent.tagName === 'OPTION' && !parent.selected) continue;
    seen.words.push(...node.textContent.split(/\\s+/).filter(word => /\\p{L}/u.test(word)));
  }
  return seen;
}"""


# All that can be read without scrolling, in and out of shadow roots: the page and the sidebar.
VISIBLE_WORDS = """() => {
  const words = [];
  const walk = node => {
    if (node.nodeType === Node.TEXT_NODE && node.parentElement.checkVisibility()) {
      const range = document.createRange();
      range.selectNodeContents(node);
      const {top, bottom, left, right} = range.getBoundingClientRect();
      if (top < innerHeight && bottom > 0 && left < innerWidth && right > 0)
        words.push(node.textContent);
    }
    for (const child of (node.shadowRoot || node).childNodes)
      if (!['STYLE', 'SCRIPT'].includes(child.nodeName)) walk(child);
  };
  walk(document.body);
  return words;
}"""


def first_screen(page: Page) -> dict[str, Any]:
    """What of an error is on the first screen: the lower ends of its pieces by kind, the sizes of
    its pictures, and words of ours before the first teacher.
    """
    expect(page.locator("[data-turnover=teacher]").first).to_be_visible()
    settle(page)
    return page.evaluate(FIRST_SCREEN)  # type: ignore[no-any-return]


def wrong_first_screen(page: Page, teachers: int) -> list[str]:
    """What is wrong with the first screen: the error, why, and so many teachers must be whole."""
    seen, height = first_screen(page), page.evaluate("innerHeight")
    wanted = {"error": 1, "why": 1, "teacher": teachers}
    wrong = [
        f"{kind}: {seen['boxes'].get(kind)}"
        for kind, count in wanted.items()
        if sum(bottom <= height for bottom in seen["boxes"].get(kind, ())) < count
    ]
    if len(seen["words"]) > 40:
        wrong.append(f"{len(seen['words'])} words: {' '.join(seen['words'])}")
    if any(min(size[:2]) < 140 or size[2] != "pixelated" for size in seen["pictures"]):
        wrong.append(f"pictures: {seen['pictures']}")
    if len({tuple(size[:2]) for size in seen["pictures"]}) > 1:
        wrong.append(f"scales: {seen['pictures']}")
    return wrong


def forget_flags(run: Path) -> None:
    """No flag of a run, with what SQLite keeps beside them."""
    for path in run.glob("flags.sqlite*"):
        path.unlink()


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(url: str, seconds: float = 60) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no dashboard at {url} after {seconds:.0f} s")


@contextmanager
def serving(runs: Path) -> Iterator[Served]:
    """The dashboard on a folder of runs, started as `make run` starts it."""
    command = [sys.executable, "-m", "turnover", "dashboard", "--runs", str(runs)]
    command += ["--port", str(free_port())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        url = server.stdout.readline().split()[-1]
        wait_until_healthy(url)
        yield Served(url, runs)
        server.kill()
