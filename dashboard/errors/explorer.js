// Which error is shown, which card is in focus, the keys, the address, and what is sent to Python.
// Everything shows at once; decisions say "saving" until Python confirms that they are on the disk.

const FILTERS = ["true", "predicted", "cause", "twin", "search", "sort"];
const BELOW = ["more", "containing"]; // what is open below the list, by hand in Python's widgets
const USUAL = { sort: "cause" };
const ON_ERRORS = ["judge", "prove"]; // decisions on an error, not on a training item

function makeState(root) {
  const S = pageState({ root, panes: new Map(), proofs: new Map(), card: null, form: null, opened: null,
    listOpen: false });
  S.news = () => ({ opened: S.opened ?? 0,
    panes: [...S.panes.values()].filter((pane) => !pane.waiting).map((pane) => pane.id) });

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
  S.toggleList = () => { S.listOpen = !S.listOpen; S.draw(); };

  S.arrive = (place, item, listed) => {
    const found = listed && [...S.rows].find(([, row]) => row.id === item);
    Object.assign(S, { item, place });
    if (found) {
      S.index = found[0];
      S.settle();
      S.draw();
    } else S.awaiting = true;
  };

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
    S.piece("foot", [data.flagged, data.decided, data.undo, data.problem, data.lost, data.progress, S.moved,
      S.pending.length, data.run], () => drawFoot(S));
    S.root.classList.toggle("list-open", S.listOpen);
    S.root.dataset.kind = data.kind;
    markRow(S, S.root);
    S.mark();
  };
  return S;
}

function nothing() {
  return el("div", { class: "box", role: "status" }, el("b", {}, "No error matches"),
    el("p", {}, "Clear the search, or choose another cause or class."));
}

// What Python says; returns whether it says where to go.
function adopt(S, data) {
  const turned = hearOf(S, data, S.panes, S.proofs);
  for (const pane of data.panes) S.panes.set(pane.id, pane);
  while (S.panes.size > 200) S.panes.delete(S.panes.keys().next().value);
  for (const id of data.near) S.proofs.set(id, data.proofs[id]);
  for (const id of data.near)
    for (const { position } of [...(S.panes.get(id)?.teachers ?? []), ...(S.panes.get(id)?.opponents ?? [])])
      if (data.flags[position]) S.flags.set(position, data.flags[position]);
      else S.flags.delete(position);
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
  if (typedInto(S, event)) {
    if (event.key === "Escape" && S.form) S.closeForm();
    return;
  }
  const key = event.key.toLowerCase();
  const inRows = event.composedPath()[0].closest?.(".rows");
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
