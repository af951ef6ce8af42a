// Training items as grid, list and map of one selection: which are shown, selected and opened, the
// keys, and what is sent to Python. Decisions show at once and say "saving" until they are on the disk.

const FILTERS = ["view", "sort", "label", "flagged", "search", "least", "places", "way", "colour"];
const USUAL = { view: "grid", sort: "doubt", least: "80" };
const BELOW = [];
const LISTED = ["sort", "label", "flagged", "search"]; // what the list depends on

function makeState(root) {
  const S = pageState({ root, order: [], chances: [], chunks: new Set(), panels: new Map(),
    told: new Map(), selected: new Set(), anchor: 0, opening: false, map: null, mapName: "", peek: -1, peeked: null,
    hover: null, looked: 0, done: "" });
  S.news = () => ({ chunks: [...S.chunks], panels: [...S.panels.keys()],
    selected: [...S.selected], map: S.mapName, peek: S.peek, index: Math.max(0, S.looked) });
  S.position = () => S.order[S.index];
  S.usual = (name) => S.place[name] || USUAL[name] || "";

  // Which item: the current one, with its panel where that is open

  S.step = (by) => S.go(Math.min(Math.max(S.index + by, 0), S.total - 1), S.item !== "", false);
  S.go = (index, open, push) => {
    if (!S.total || S.awaiting) return;
    S.index = S.looked = index;
    S.moved = true;
    if (open) {
      const row = S.rows.get(S.position());
      S.opening = !row;
      if (row && row.id !== S.item) {
        S.item = row.id;
        S.address(push);
      }
    }
    S.draw();
    S.reveal();
    S.sendSoon();
  };
  S.open = (id, push) => {
    const index = S.order.findIndex((position) => S.rows.get(position)?.id === id);
    if (index >= 0) S.index = S.looked = index;
    Object.assign(S, { item: id, opening: false, moved: true });
    S.address(push);
    S.draw();
    S.sendSoon();
  };
  S.close = () => {
    S.item = "";
    S.address(true);
    S.draw();
    S.root.querySelector(".item[aria-current] button")?.focus({ preventScroll: true });
    S.sendSoon();
  };
  S.arrive = (place, item, listed) => {
    const changed = LISTED.some((name) => (place[name] ?? "") !== (S.place[name] ?? ""));
    Object.assign(S, { place, item, awaiting: changed });
    const index = S.order.findIndex((position) => S.rows.get(position)?.id === item);
    if (!changed && index >= 0) S.index = index;
    S.draw();
  };

  // Many at once

  S.toggle = (index, range) => {
    const position = S.order[index];
    const [first, last] = range ? [S.anchor, index].sort((a, b) => a - b) : [index, index];
    const add = range || !S.selected.has(position);
    for (const each of S.order.slice(first, last + 1))
      if (add) S.selected.add(each); else S.selected.delete(each);
    S.anchor = S.index = index;
    S.draw();
    S.sendSoon();
  };
  S.select = (positions) => {
    S.selected = new Set(positions);
    S.draw();
    S.sendSoon();
  };
  S.targets = () => S.selected.size ? [...S.selected] : S.total ? [S.position()] : [];
  S.least = () => Number(S.usual("least"));
  // every label in doubt, of all that match, that nobody has decided on
  S.doubtful = () => S.order.filter((position, at) =>
    S.chances[at] >= S.least() && !decisionOf(S, position));

  // Decisions

  S.act = (kind, positions, more) => {
    const undo = kind === "undo";
    if (!undo && !positions.length) return;
    S.pending.push({ number: ++S.number, kind, positions, ...more });
    if (kind === "prove") S.done = "";
    else if (!undo) {
      S.done = `${positions.length.toLocaleString("en")} ${positions.length > 1 ? "items" : "item"}: ${
        { accept: "relabel to the proposal", clear: "no flag" }[kind] ?? kind}`;
      S.selected = new Set();
    } else S.done = "Undone";
    S.send();
    S.draw();
  };
  S.decide = (kind) => {
    const proposed = (position) => S.chances[S.order.indexOf(position)] > 0;
    const targets = S.targets();
    S.act(kind, kind === "accept" ? targets.filter(proposed) : targets);
  };

  // What is drawn

  S.reveal = () => {
    const box = S.root.querySelector(".rows");
    if (!box?.lay) return;
    const { columns, height } = box.lay;
    const top = Math.floor(S.index / columns) * height;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + height > box.scrollTop + box.clientHeight) box.scrollTop = top + height - box.clientHeight;
    S.fill();
  };
  S.fill = () => {
    if (S.usual("view") !== "map") fillItems(S);
  };
  S.draw = () => {
    const { data } = S;
    const view = S.usual("view");
    S.root.dataset.kind = data.kind;
    S.root.dataset.view = view;
    S.root.classList.toggle("opened", S.item !== "");
    const { least, ...place } = S.place;
    S.piece("filters", [S.stamp, { ...place, search: "" }, S.turn], () => drawFilters(S));
    S.piece("doubts", [S.stamp, least, S.rowsName, data.suspects, S.doubtful().length],
      () => drawDoubts(S));
    S.piece("acts", [S.stamp, S.total, [...S.selected].length, S.pending.length, data.undo, data.decided,
      data.problem, S.done, S.awaiting], () => drawActs(S));
    S.piece("items", [S.stamp, view, S.total > 0], () => view === "map" ? drawMap(S) : drawItems(S));
    S.piece("panel", [S.item, S.panels.has(S.item), decisionOf(S, S.panels.get(S.item)?.position) ?? 0,
      S.told.get(S.item), S.pending.some((act) => act.kind === "prove")],
      () => S.item ? drawPanel(S) : el("span"));
    if (view === "map") paint(S); else S.fill();
  };
  return S;
}

function decisionOf(S, position) {
  const waiting = S.pending.filter((act) => !["undo", "prove"].includes(act.kind) && act.positions.includes(position)).at(-1);
  if (!waiting) return S.flags.get(position);
  const doubt = S.rows.get(position)?.doubt;
  const relabel = waiting.kind === "accept" || waiting.kind === "relabel";
  return { action: relabel ? "relabel" : waiting.kind, saving: true,
    label: waiting.kind === "accept" ? doubt?.label ?? "the proposal" : S.data.classes[waiting.label] };
}

// What Python says; returns whether it says where to go.
function adopt(S, data) {
  const turned = hearOf(S, data, S.chunks, S.panels, S.selected, S.told);
  if (data.told) S.told.set(data.told.id, data.told);
  if (data.map) Object.assign(S, { map: data.map, mapName: data.map.name });
  if (data.peeked) S.peeked = data.peeked;
  for (const panel of data.panels) S.panels.set(panel.id, panel);
  while (S.panels.size > 100) S.panels.delete(S.panels.keys().next().value);
  S.flags = new Map(Object.entries(data.flags).map(([position, [action, label]]) =>
    [Number(position), { action, label }]));
  if (LISTED.some((name) => (S.place[name] ?? "") !== (data.place[name] ?? ""))) return turned;
  if (S.rowsName !== data.rowsName && data.order) {
    S.chunks.clear();
    Object.assign(S, { order: data.order, chances: data.chances, rowsName: data.rowsName,
      total: data.order.length });
  }
  if (S.rowsName !== data.rowsName) return turned;
  for (const [chunk, rows] of Object.entries(data.chunks)) {
    S.chunks.add(Number(chunk));
    for (const row of rows) S.rows.set(row.position, row);
  }
  if (S.awaiting) {
    Object.assign(S, { awaiting: false, index: data.index, looked: data.index });
    if (turned) S.item = data.item;
    S.drawn.items = "";
    requestAnimationFrame(S.reveal);
  }
  S.index = Math.max(0, Math.min(S.index, S.total - 1));
  const row = S.rows.get(S.position());
  if (S.opening && row) {
    Object.assign(S, { opening: false, item: row.id });
    S.address(false);
  }
  return turned;
}

const KEYS = { d: "drop", r: "accept", g: "keep", c: "clear" };

function onKey(S, event) {
  if (typedInto(S, event)) return;
  const key = event.key.toLowerCase();
  const target = event.composedPath()[0];
  const inItems = target.closest?.(".at-items");
  const columns = S.root.querySelector(".rows")?.lay?.columns ?? 1;
  const arrows = { arrowright: 1, arrowleft: -1, arrowdown: columns, arrowup: -columns };
  if (key === "j") S.step(1);
  else if (key === "k") S.step(-1);
  else if (inItems && arrows[key]) S.step(arrows[key]);
  else if (key === "x" || (key === " " && inItems)) S.toggle(S.index, event.shiftKey);
  else if (key === "enter" && (inItems || target === document.body)) S.go(S.index, true, true);
  else if (key === "escape" && S.item) S.close();
  else if (key === "escape" && S.selected.size) S.select([]);
  else if (key === "u") S.act("undo", []);
  else if (KEYS[key]) S.decide(KEYS[key]);
  else return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (inItems) S.root.querySelector(".item[aria-current] button")?.focus({ preventScroll: true });
}

function frame() {
  const at = (name) => el("div", { class: `at-${name}` });
  return el("div", { class: "root" }, at("filters"), el("div", { class: "bar" }, at("doubts"), at("acts")),
    at("items"), at("panel"));
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const first = !mounted.has(parentElement);
  const S = mounted.get(parentElement) ?? mount(parentElement, data);
  S.set = setStateValue;
  const turned = adopt(S, data);
  if (first || turned) S.address(false);
  S.draw();
  const lacking = S.rowsName !== data.rowsName
    || (S.usual("view") === "map" && !S.map) || (S.item && !S.panels.has(S.item) && !data.lost);
  if (((first || turned) && S.pending.length) || lacking) S.sendSoon();
  return () => leave(S, parentElement);
}
