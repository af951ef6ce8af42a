// Which error is shown, which card is in focus, the keys, the address, and what is sent to Python.
// Everything shows at once; decisions say "saving" until Python confirms that they are on the disk.

const FILTERS = ["true", "predicted", "cause", "twin", "search", "sort"];
const BELOW = ["more", "containing"]; // what is open below the list, by hand in Python's widgets
const NAMED = ["run", "yours", ...FILTERS, "item", ...BELOW]; // in the address
const ORDER = "cause"; // that goes without saying
const ON_ERRORS = ["judge", "prove"]; // decisions on an error, not on a training item
const WAIT = 120; // milliseconds between two messages on steps
const GAP = 1000; // in which a component that was taken away may come back
const mounted = new WeakMap();
let kept = null;

const same = (one, other) => FILTERS.every((name) => one[name] === other[name]);
const main = () => document.querySelector("[data-testid=stMain]");

function makeState(root) {
  const S = {
    root, client: `${Date.now()}-${Math.random()}`, path: location.pathname, stamp: "", turn: "",
    place: {}, item: "", index: 0, total: 0, rows: new Map(), rowsName: "", panes: new Map(),
    flags: new Map(), proofs: new Map(), pending: [], number: 0, card: null, form: null,
    awaiting: false, moved: false, opened: null,
    listOpen: false, sent: 0, timer: 0, typing: 0, searched: false, drawn: {},
  };

  // Steps and filters

  S.step = (by) => S.go(Math.min(Math.max(S.index + by, 0), S.total - 1), false);
  S.go = (index, push) => {
    if (!S.total || S.awaiting || (index === S.index && S.item)) return;
    S.index = index;
    S.item = S.rows.get(index)?.id ?? "";
    S.moved = true;
    S.listOpen = S.listOpen && !push;
    S.settle();
    if (S.item) S.address(push);
    S.draw();
    if (S.root.getBoundingClientRect().top < 0) S.root.scrollIntoView({ block: "start" });
    S.sendSoon();
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
  S.toggleList = () => { S.listOpen = !S.listOpen; S.draw(); };

  // The card in focus: at first the strongest teacher, never an opponent of itself

  S.settle = () => {
    S.form = null;
    const teachers = S.panes.get(S.item)?.teachers ?? [];
    const free = teachers.find((card) => !decisionOf(S, card.position));
    S.card = (free ?? teachers[0])?.position ?? null;
  };
  S.focusCard = (position) => { if (S.card !== position) { S.card = position; S.mark(); } };
  S.mark = () => {
    for (const card of S.root.querySelectorAll(".card")) {
      const focused = Number(card.dataset.position) === S.card;
      card.classList.toggle("focused", focused);
      if (focused) card.setAttribute("aria-current", "true");
      else card.removeAttribute("aria-current");
    }
  };
  S.openForm = (card, decision) => {
    const label = S.data.classes.indexOf(decision?.label);
    S.form = { position: card.position, note: decision?.note ?? "",
      kind: decision?.action ?? "relabel",
      label: label >= 0 ? label : card.doubt?.index ?? -1 };
    S.draw();
    S.root.querySelector(".form select, .form input")?.focus();
  };
  S.closeForm = () => { S.form = null; S.draw(); };

  // Decisions

  S.act = (decision) => {
    S.pending.push({ number: ++S.number, ...decision });
    S.form = null;
    S.send();
    if (!["undo", ...ON_ERRORS].includes(decision.kind) && decision.position === S.card) S.settle();
    S.draw();
  };
  S.verdictOf = (id) => {
    const waiting = S.pending.filter((act) => act.kind === "judge" && act.id === id).at(-1);
    return waiting ? waiting.label ?? undefined : S.data.judged[id];
  };
  S.judge = (number) => {
    const pane = S.panes.get(S.item);
    if (!pane || pane.own || number >= S.data.verdicts.length) return;
    const label = S.verdictOf(pane.id) === number ? null : number;
    S.act({ kind: "judge", position: pane.position, id: pane.id, label });
  };
  S.prove = (pane) => S.act({ kind: "prove", position: pane.position, id: pane.id });
  S.isProving = (id) => S.data.proving.includes(id)
    || S.pending.some((act) => act.kind === "prove" && act.id === id);
  S.dropFocused = () => {
    const card = S.root.querySelector(`.card[data-position="${S.card}"]`);
    if (!card || !S.panes.has(S.item)) return;
    const { top, bottom } = card.getBoundingClientRect();
    const seen = top < innerHeight && bottom > 0;
    if (!seen) card.scrollIntoView({ block: "nearest" });
    else if (!decisionOf(S, S.card)) S.act({ kind: "drop", position: S.card });
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
      index: S.index, acts: S.pending, rows: S.rowsName, opened: S.opened ?? 0, at: S.sent,
      panes: [...S.panes.values()].filter((pane) => !pane.waiting).map((pane) => pane.id) });
  };

  // The address: a step replaces it, a click or a filter adds an entry, and each remembers its scroll

  S.address = (push) => {
    const query = new URLSearchParams(location.search);
    for (const name of NAMED) query.delete(name);
    const said = { ...S.place, run: S.data.run, yours: S.data.yours, item: S.item };
    for (const name of NAMED)
      if (said[name] && !(name === "sort" && said[name] === ORDER)) query.set(name, said[name]);
    if (`?${query}` === location.search) return;
    S.keepScroll();
    const state = push ? {} : history.state;
    history[push ? "pushState" : "replaceState"](state, "", `${location.pathname}?${query}`);
  };
  S.keepScroll = () => {
    if (location.pathname !== S.path || !main()) return;
    const scroll = [main().scrollTop, S.root.querySelector(".rows")?.scrollTop ?? 0];
    history.replaceState({ ...history.state, scroll }, "");
  };
  S.bringScroll = () => {
    const scroll = history.state?.scroll;
    if (!scroll) return;
    main()?.scrollTo(0, scroll[0]);
    S.root.querySelector(".rows")?.scrollTo(0, scroll[1]);
  };
  S.back = () => {
    const query = new URLSearchParams(location.search);
    if (location.pathname !== S.path || query.get("run") !== S.data.run) return;
    const names = [...FILTERS, ...BELOW];
    const place = Object.fromEntries(names.map((name) => [name, query.get(name) ?? ""]));
    place.sort ||= ORDER;
    const item = query.get("item") ?? "";
    const found = same(place, S.place) && [...S.rows].find(([, row]) => row.id === item);
    S.item = item;
    S.moved = true;
    S.place = place;
    if (found) {
      S.index = found[0];
      S.settle();
      S.draw();
    } else S.awaiting = true;
    S.send();
    requestAnimationFrame(S.bringScroll);
  };
  S.follow = (event, href) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    S.keepScroll();
    history.pushState({}, "", new URL(href, location.href));
    dispatchEvent(new PopStateEvent("popstate", { state: {} }));
  };

  // Drawing: a piece is drawn anew only if what it shows has changed, and keeps the focus

  S.draw = () => {
    const { data } = S;
    const shown = [S.stamp, S.place, S.index, S.total, S.listOpen];
    const pane = S.panes.get(S.item);
    const cards = [...(pane?.teachers ?? []), ...(pane?.opponents ?? [])];
    S.piece("top", [...shown, data.headline], () => drawBar(S));
    S.piece("filters", [S.stamp, S.place.true, S.place.predicted, S.place.cause, S.place.twin, S.place.sort, S.turn, data.causes], () => drawFilters(S));
    const verdicts = [...S.rows.values()].map((row) => S.verdictOf(row.id) ?? "");
    S.piece("rows", [S.stamp, S.rowsName, verdicts], () => drawRows(S));
    S.piece("pane", [S.stamp, S.item, pane, S.total, S.form?.position,
      S.verdictOf(S.item) ?? "", S.proofs.get(S.item), S.isProving(S.item), data.proveTime, cards.map((card) => decisionOf(S, card.position) ?? 0)],
    () => (S.total ? drawPane(S) : nothing()));
    S.piece("foot", [data.flagged, data.undo, data.problem, data.lost, data.progress, S.moved,
      S.pending.length, data.run], () => drawFoot(S));
    S.root.classList.toggle("list-open", S.listOpen);
    S.root.dataset.kind = data.kind;
    markRow(S, S.root);
    S.mark();
  };
  S.piece = (name, facts, make) => {
    const key = JSON.stringify(facts);
    if (S.drawn[name] === key) return;
    S.drawn[name] = key;
    const focus = S.root.getRootNode().activeElement;
    const kept = focus?.closest(`.at-${name}`) ? focus.dataset.focus : null;
    const place = S.root.querySelector(`.at-${name}`);
    const scroll = place.firstChild?.scrollTop ?? 0;
    place.replaceChildren(make());
    place.firstChild.scrollTop = scroll;
    if (kept) place.querySelector(`[data-focus="${kept}"]`)?.focus({ preventScroll: true });
  };
  return S;
}

function nothing() {
  return el("div", { class: "box", role: "status" }, el("b", {}, "No error matches"),
    el("p", {}, "Clear the search, or choose another cause or class."));
}

// What Python says; returns whether it says where to go.
function adopt(S, data) {
  S.data = data;
  if (data.stamp !== S.stamp) {
    if (S.pending.length) data.problem = "the run has changed meanwhile; look at it again.";
    for (const known of [S.rows, S.panes, S.flags, S.proofs]) known.clear();
    Object.assign(S, { stamp: data.stamp, rowsName: "", pending: [], drawn: {} });
  }
  for (const pane of data.panes) S.panes.set(pane.id, pane);
  while (S.panes.size > 200) S.panes.delete(S.panes.keys().next().value);
  if (data.client === S.client) S.pending = S.pending.filter((act) => act.number > data.done);
  for (const id of data.near) S.proofs.set(id, data.proofs[id]);
  for (const id of data.near)
    for (const { position } of [...(S.panes.get(id)?.teachers ?? []), ...(S.panes.get(id)?.opponents ?? [])])
      if (data.flags[position]) S.flags.set(position, data.flags[position]);
      else S.flags.delete(position);
  const turned = data.turn !== S.turn;
  if (turned) Object.assign(S, { turn: data.turn, place: data.place, awaiting: true, moved: false });
  const byHand = data.opened !== S.opened;
  if (byHand) for (const name of BELOW) S.place = { ...S.place, [name]: data.place[name] };
  const known = S.opened !== null;
  S.opened = data.opened;
  if (!same(S.place, data.place)) return turned;
  S.total = data.total;
  if (data.rows) {
    S.rows = new Map(data.rows.map((row, place) => [data.first + place, row]));
    S.rowsName = data.rowsName;
  }
  if (S.awaiting || (!S.item && data.index === S.index)) {
    Object.assign(S, { awaiting: false, index: data.index, item: data.item });
    S.address(turned && data.push);
  } else if (byHand && known) S.address(true);
  if (S.index >= S.total) S.index = Math.max(0, S.total - 1);
  if (S.card === null || !S.panes.get(S.item)?.teachers.some((card) => card.position === S.card)
      && !S.panes.get(S.item)?.opponents.some((card) => card.position === S.card)) S.settle();
  return turned;
}

function onKey(S, event) {
  const target = event.composedPath()[0];
  if (event.metaKey || event.ctrlKey || event.altKey || location.pathname !== S.path) return;
  if (target.closest?.("input, textarea, select, [contenteditable=true], [role=dialog]")) {
    if (event.key === "Escape" && S.form) S.closeForm();
    return;
  }
  const key = event.key.toLowerCase();
  const inRows = target.closest?.(".rows");
  if (key === "j" || (inRows && key === "arrowdown")) S.step(1);
  else if (key === "k" || (inRows && key === "arrowup")) S.step(-1);
  else if (key === "f") S.dropFocused();
  else if (key === "u") S.act({ kind: "undo" });
  else if (/^[1-9]$/.test(key)) S.judge(Number(key) - 1);
  else return;
  event.preventDefault();
  if (inRows) S.root.querySelector(".row[aria-current]")?.focus();
}

function frame() {
  const at = (name) => el("div", { class: `at-${name}` });
  const list = el("div", { class: "list" }, ["filters", "rows", "foot"].map(at));
  return el("div", { class: "root" }, at("top"), list, at("pane"));
}

function listen(S) {
  const { signal } = S.ends;
  document.addEventListener("keydown", (event) => onKey(S, event), { signal });
  window.addEventListener("popstate", () => S.back(), { signal });
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
  requestAnimationFrame(S.bringScroll);
  return S;
}

function leave(S, parentElement) {
  mounted.delete(parentElement);
  const root = parentElement.querySelector(".root");
  root?.remove();
  setTimeout(() => { if (S.root === root) S.ends.abort(); }, GAP);
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const first = !mounted.has(parentElement);
  const S = mounted.get(parentElement) ?? mount(parentElement, data);
  S.set = setStateValue;
  const turned = adopt(S, data);
  if (first && S.item) S.address(false);
  S.draw();
  // a component that was mounted anew has forgotten what Python thinks it has
  const lacking = S.total && (data.more || S.rowsName !== data.rowsName || !S.panes.has(data.item));
  if (((first || turned) && S.pending.length) || (lacking && same(S.place, data.place))) S.sendSoon();
  return () => leave(S, parentElement);
}
