// What the components that own a page have in common: messages to Python, the address, and drawing
// piece by piece. A component says by FILTERS which filters there are, by USUAL which of their values
// go without saying, and by makeState, frame, onKey what it is. Texts from the data are only ever set
// as textContent.

const WAIT = 120; // milliseconds between two messages on steps
const GAP = 1000; // in which a component that was taken away may come back
const PATIENCE = 3000; // for which what is yet to come is awaited, to be scrolled where it was
const mounted = new WeakMap();
let kept = null;

const same = (one, other) => FILTERS.every((name) => one[name] === other[name]);
const main = () => document.querySelector("[data-testid=stMain]");

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== ""));
  return node;
}

const chip = (text, kind) => el("span", { class: `chip ${kind || ""}`, dir: "auto" }, text);

const doubtChip = (doubt) => doubt ? chip(`label? ${doubt.label} · ${doubt.chance}`, "doubt") : "";

function button(text, focus, onclick, attributes) {
  return el("button", { type: "button", "data-focus": focus, onclick, ...attributes }, text);
}

function proveButton(S, busy, onclick) {
  const time = S.data.proveTime ? ` (${S.data.proveTime})` : "";
  return button(busy ? "Retraining …" : `Prove it${time}`, "prove", onclick, { class: "prove", disabled: busy,
    title: "Trains again without what is said to have taught it, and without as many random ones" });
}

// A choice among [value, words] pairs, the chosen one first in mind.
function choice(label, focus, pairs, chosen, onchange) {
  const select = el("select", { "aria-label": label, "data-focus": focus },
    pairs.map(([value, words]) => el("option", { value, selected: value === chosen }, words)));
  select.addEventListener("change", () => onchange(select.value));
  return select;
}

function searchField(S, placeholder) {
  const search = el("input", { type: "search", placeholder, "aria-label": placeholder,
    "data-focus": "search", maxlength: 200 });
  search.value = S.place.search;
  search.addEventListener("focus", () => { S.searched = false; });
  search.addEventListener("input", () => S.searchSoon(search.value));
  return search;
}

function decisionChip(decision) {
  if (!decision) return "";
  const words = decision.saving && decision.action === "clear" ? "no flag"
    : decision.action === "relabel" ? `relabel to ${decision.label}` : decision.action;
  const state = decision.saving ? "saving …" : "flagged";
  return el("span", { class: `chip flag ${decision.saving ? "saving" : ""}`,
    "data-turnover": "decision", title: decision.note || null }, `${state}: ${words}`);
}

// Says at once in the page's tray, which Python draws, what was decided here.
function tellTray(S) {
  const tray = document.querySelector("[data-turnover=tray]");
  const { decided } = S.data;
  const many = decided === 1 ? "1 decision" : `${decided.toLocaleString("en")} decisions`;
  if (tray) tray.textContent = S.pending.length ? "saving …" : many;
}

// A state with what all have; `own` has root, places of its own, and S.news(), what its messages say.
function pageState(own) {
  const S = {
    client: `${Date.now()}-${Math.random()}`, path: location.pathname, stamp: "", turn: "",
    place: {}, item: "", index: 0, total: 0, rows: new Map(), rowsName: "", flags: new Map(),
    pending: [], number: 0, awaiting: false, moved: false, sent: 0, timer: 0, typing: 0,
    searched: false, due: 0, drawn: {}, ...own,
  };

  S.filter = (change, push) => {
    S.place = { ...S.place, ...change };
    Object.assign(S, { awaiting: true, moved: true });
    S.address(push);
    S.send();
  };
  S.searchSoon = (text) => {
    clearTimeout(S.typing);
    S.typing = setTimeout(() => {
      S.filter({ search: text }, !S.searched);
      S.searched = true;
    }, 250);
  };

  // Messages

  S.sendSoon = () => {
    clearTimeout(S.timer);
    const wait = S.sent + WAIT - Date.now();
    if (wait <= 0) S.send();
    else S.timer = setTimeout(S.send, wait);
  };
  S.send = () => {
    clearTimeout(S.timer);
    S.sent = Date.now();
    S.set("message", { client: S.client, stamp: S.stamp, place: { ...S.place, item: S.item },
      index: S.index, acts: S.pending, rows: S.rowsName, at: S.sent, ...S.news() });
  };

  // The address: a step replaces it, a click or a filter adds an entry, and each remembers its scroll

  S.address = (push) => {
    const query = new URLSearchParams(location.search);
    const names = ["run", "yours", ...FILTERS, "item", ...BELOW];
    for (const name of names) query.delete(name);
    const said = { ...S.place, run: S.data.run, yours: S.data.yours, item: S.item };
    for (const name of names)
      if (said[name] && said[name] !== USUAL[name]) query.set(name, said[name]);
    if (`?${query}` === location.search) return;
    S.keepScroll();
    const state = push ? {} : history.state;
    history[push ? "pushState" : "replaceState"](state, "", `${location.pathname}?${query}`);
  };
  // what was taken away, or is yet to be scrolled where it was, has no scroll to keep
  S.keepScroll = () => {
    if (location.pathname !== S.path || !main() || !S.root.isConnected || Date.now() < S.due) return;
    const scroll = [main().scrollTop, S.root.querySelector(".rows")?.scrollTop ?? 0];
    history.replaceState({ ...history.state, scroll }, "");
  };
  S.bringScroll = () => {
    S.due = Date.now() + PATIENCE;
    requestAnimationFrame(S.tryScroll);
  };
  // again and again, since what makes the page long enough comes bit by bit
  S.tryScroll = () => {
    const scroll = history.state?.scroll;
    if (!scroll || S.ends.signal.aborted || Date.now() >= S.due) return void (S.due = 0);
    main()?.scrollTo(0, scroll[0]);
    S.root.querySelector(".rows")?.scrollTo(0, scroll[1]);
    requestAnimationFrame(S.tryScroll);
  };
  S.back = () => {
    const query = new URLSearchParams(location.search);
    if (location.pathname !== S.path || query.get("run") !== S.data.run) return;
    const place = Object.fromEntries(
      [...FILTERS, ...BELOW].map((name) => [name, query.get(name) ?? USUAL[name] ?? ""]));
    S.moved = true;
    S.arrive(place, query.get("item") ?? "", same(place, S.place));
    S.send();
    S.bringScroll();
  };
  S.follow = (event, href) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    S.keepScroll();
    history.pushState({}, "", new URL(href, location.href));
    dispatchEvent(new PopStateEvent("popstate", { state: {} }));
  };

  // Drawing: a piece is drawn anew only if what it shows has changed, and keeps the focus

  S.piece = (name, facts, make) => {
    const key = JSON.stringify(facts);
    if (S.drawn[name] === key) return;
    S.drawn[name] = key;
    const focus = S.root.getRootNode().activeElement;
    const kept = focus?.closest(`.at-${name}`) ? focus.dataset.focus : null;
    const place = S.root.querySelector(`.at-${name}`);
    const scroll = place.firstChild?.scrollTop ?? 0;
    place.replaceChildren(make());
    if (place.firstChild) place.firstChild.scrollTop = scroll;
    if (kept) place.querySelector(`[data-focus="${kept}"]`)?.focus({ preventScroll: true });
  };
  return S;
}

// Of what Python says: what belongs to another state of the run is forgotten, confirmed decisions are
// no longer repeated; returns whether it says where to go.
function hearOf(S, data, ...known) {
  S.data = data;
  if (data.stamp !== S.stamp) {
    if (S.pending.length) data.problem = "the run has changed meanwhile; look at it again.";
    for (const each of [S.rows, S.flags, ...known]) each.clear();
    Object.assign(S, { stamp: data.stamp, rowsName: "", pending: [], drawn: {} });
  }
  if (data.client === S.client) S.pending = S.pending.filter((act) => act.number > data.done);
  if (data.turn === S.turn) return false;
  Object.assign(S, { turn: data.turn, place: data.place, awaiting: true, moved: false });
  return true;
}

function typedInto(S, event) {
  return event.metaKey || event.ctrlKey || event.altKey || location.pathname !== S.path
    || event.composedPath()[0].closest?.("input:not([type=range], [type=checkbox]), textarea, select, [contenteditable=true], [role=dialog]");
}

function listen(S) {
  const { signal } = S.ends;
  document.addEventListener("keydown", (event) => onKey(S, event), { signal });
  window.addEventListener("popstate", () => S.back(), { signal });
  for (const hand of ["wheel", "touchmove", "pointerdown", "keydown"]) // the reader's own scroll is kept
    document.addEventListener(hand, () => { S.due = 0; }, { signal, capture: true, passive: true });
  document.addEventListener("scroll", () => {
    clearTimeout(S.scrolling);
    S.scrolling = setTimeout(S.keepScroll, 200);
  }, { signal, capture: true, passive: true });
}

// Streamlit may take the component away and mount it anew, as when it connects again: what was not
// sent yet goes on where it was, and no key is lost meanwhile.
function mount(parentElement, data) {
  const root = frame();
  parentElement.append(root);
  const again = kept && kept.turn === data.turn && kept.stamp === data.stamp;
  if (kept && !again) kept.ends.abort();
  const S = again ? Object.assign(kept, { root, drawn: {} }) : makeState(root);
  if (!again || S.ends.signal.aborted) {
    S.ends = new AbortController();
    listen(S);
  }
  mounted.set(parentElement, S);
  kept = S;
  S.bringScroll();
  return S;
}

function leave(S, parentElement) {
  mounted.delete(parentElement);
  const root = parentElement.querySelector(".root");
  root?.remove();
  setTimeout(() => { if (S.root === root) S.ends.abort(); }, GAP);
}
