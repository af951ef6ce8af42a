// The map: items near each other are alike for the model. Draw around some to select them; a click
// opens one. The list is the same selection for those who use keys.

const PALETTE = ["#3b82bd", "#cf6f2d", "#4b9668", "#8f70c4", "#c0504d", "#94785a", "#c25e9a", "#8f8a24",
  "#1f8f9c", "#6b7fd7"];
const GREY = "#808080";
const NEAR = 9; // pixels from a point that count as on it

function drawMap(S) {
  const canvas = el("canvas", { class: "map", role: "img", "aria-label":
    "Map of the training items; Grid and List show the same ones" });
  const hint = el("div", { class: "hint", hidden: true });
  const box = el("div", { class: "map-box" }, canvas, hint, el("div", { class: "legend" }));
  canvas.hint = hint;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.trail = [[event.offsetX, event.offsetY]];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.trail) {
      canvas.trail.push([event.offsetX, event.offsetY]);
      paint(S);
    } else pointAt(S, canvas, event);
  });
  canvas.addEventListener("pointerup", (event) => {
    const trail = canvas.trail ?? [];
    canvas.trail = null;
    const wide = trail.some(([x, y]) => Math.hypot(x - trail[0][0], y - trail[0][1]) > 6);
    if (wide) {
      const matching = new Set(S.order);
      const drawn = S.map.items.filter((item, at) => item >= 0 && matching.has(item) && inside(trail, placeOf(S, canvas, at)));
      S.select(event.shiftKey ? [...S.selected, ...drawn] : drawn);
    } else openAt(S, canvas, event);
    paint(S);
  });
  canvas.addEventListener("pointerleave", () => { hint.hidden = true; });
  new ResizeObserver(() => paint(S)).observe(canvas);
  return box;
}

const placeOf = (S, canvas, at) => [12 + S.map.x[at] * (canvas.clientWidth - 24) / 1000,
  12 + (1000 - S.map.y[at]) * (canvas.clientHeight - 24) / 1000];

// By the rule of even and odd crossings.
function inside(trail, [x, y]) {
  let odd = false;
  for (let i = 0, j = trail.length - 1; i < trail.length; j = i++) {
    const [[x1, y1], [x2, y2]] = [trail[i], trail[j]];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) odd = !odd;
  }
  return odd;
}

function nearest(S, canvas, event) {
  let [best, distance] = [-1, NEAR];
  for (let at = 0; at < S.map.items.length; at++) {
    const [x, y] = placeOf(S, canvas, at);
    const away = Math.hypot(x - event.offsetX, y - event.offsetY);
    if (away < distance) [best, distance] = [at, away];
  }
  return best;
}

function pointAt(S, canvas, event) {
  if (!S.map) return;
  const at = nearest(S, canvas, event);
  canvas.style.cursor = at >= 0 ? "pointer" : "crosshair";
  canvas.hint.hidden = at < 0;
  if (at < 0) return;
  canvas.hint.style.left = `${Math.min(event.offsetX + 12, canvas.clientWidth - 180)}px`;
  canvas.hint.style.top = `${event.offsetY + 12}px`;
  if (S.peek !== at) {
    S.peek = at;
    S.peeked = null;
    clearTimeout(canvas.asking);
    canvas.asking = setTimeout(S.send, 80);
  }
  fillHint(S, canvas.hint);
}

function fillHint(S, hint) {
  const row = S.peeked?.at === S.peek ? S.peeked.row : null;
  hint.replaceChildren(...(row ? [shownItem(S, row, ""), el("span", { class: "marks" }, chip(row.label),
    row.predicted ? chip(`taken for ${row.predicted}`, "wrong") : doubtChip(row.doubt))] : ["…"]));
}

function openAt(S, canvas, event) {
  const at = S.map ? nearest(S, canvas, event) : -1;
  if (at < 0) return S.select([]);
  const position = S.map.items[at];
  const index = S.order.indexOf(position);
  if (index >= 0 && event.shiftKey) return S.toggle(index, false);
  if (index >= 0) return S.go(index, true, true);
  if (position < 0) {
    const href = `${new URL("./", location.href).pathname}?${new URLSearchParams({ run: S.data.run, item: S.map.errors[at - S.map.first] })}`;
    S.follow(event, href);
  }
}

// From blue to orange, which most colour-blind people tell apart.
const scale = (share) => `color-mix(in oklab, #e0661a ${2 * Math.max(0, share - 50)}%, #3b82bd)`;

function colourOf(S, at) {
  const by = S.usual("colour");
  const position = S.map.items[at];
  if (by === "doubt" || by === "unusual") {
    const share = position < 0 ? 0 : by === "doubt" ? S.byPosition.get(position) ?? 0 : S.map.unusual[at];
    return share < (by === "doubt" ? 1 : 50) ? GREY : scale(share);
  }
  return PALETTE[S.map[by === "predicted" ? "predicted" : "labels"][at]] ?? GREY;
}

function paint(S) {
  const canvas = S.root.querySelector(".map");
  if (!canvas) return;
  if (!canvas.hint.hidden) fillHint(S, canvas.hint);
  const dots = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * dots;
  canvas.height = height * dots;
  const pen = canvas.getContext("2d");
  pen.scale(dots, dots);
  if (!S.map) return;
  const matching = new Set(S.order);
  S.byPosition = new Map(S.order.map((position, at) => [position, S.chances[at]]));
  const text = getComputedStyle(S.root).color;
  for (let at = 0; at < S.map.items.length; at++) {
    const position = S.map.items[at];
    const [x, y] = placeOf(S, canvas, at);
    pen.globalAlpha = position < 0 || matching.has(position) ? 0.85 : 0.12;
    pen.fillStyle = pen.strokeStyle = colourOf(S, at);
    pen.lineWidth = 2;
    pen.beginPath();
    if (position < 0) {
      pen.moveTo(x - 4, y - 4); pen.lineTo(x + 4, y + 4); pen.moveTo(x + 4, y - 4); pen.lineTo(x - 4, y + 4);
      pen.stroke();
    } else {
      pen.arc(x, y, 3.5, 0, 7);
      pen.fill();
    }
    if (S.selected.has(position) || (position >= 0 && position === S.position())) {
      pen.globalAlpha = 1;
      pen.strokeStyle = text;
      pen.beginPath();
      pen.arc(x, y, position === S.position() ? 8 : 5, 0, 7);
      pen.stroke();
    }
  }
  if (canvas.trail) {
    pen.globalAlpha = 1;
    pen.strokeStyle = text;
    pen.setLineDash([4, 4]);
    pen.beginPath();
    canvas.trail.forEach(([x, y]) => pen.lineTo(x, y));
    pen.stroke();
  }
  legend(S);
}

function legend(S) {
  const by = S.usual("colour");
  const key = (colour, words) => el("span", {}, el("i", { style: `background:${colour}` }), ` ${words}`);
  const keys = by === "doubt" || by === "unusual"
    ? [key(GREY, by === "doubt" ? "none" : "lowest"), key(scale(50), "middle"), key(scale(100), "highest")]
    : S.data.classes.slice(0, 10).map((name, at) => key(PALETTE[at], name));
  S.root.querySelector(".legend").replaceChildren(...keys, el("span", {}, "× error"), el("span", { class: "quiet" }, S.map.words));
}
