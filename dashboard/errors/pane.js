// The pane: the error, why, its teachers, and what argued against it.

function pieces(parts) {
  return parts.map(([text, kind]) => (kind ? el(kind === 1 ? "mark" : "em", {}, text) : text));
}

// A text with its marks, the rest of a long one unfolding; or an image, its small pixels crisp, with
// the regions that matter outlined.
function content(item, alt) {
  if (item.content.image !== undefined) {
    const picture = el("img", { class: "picture", src: item.content.image, alt, draggable: "false" });
    return el("span", { class: "framed" }, picture, (item.boxes ?? []).map((box) => {
      const [left, top, width, height] = box.map((part) => `${part}%`);
      return el("i", { class: "region", "data-turnover": "region", "aria-hidden": "true",
        style: `left:${left};top:${top};width:${width};height:${height}` });
    }));
  }
  const { head, tail, left } = item.content;
  const more = left ? ` … ${left.toLocaleString("en")} more characters.` : "";
  const rest = tail.length
    ? el("details", {}, el("summary", {}, "Show the rest"), pieces(tail), el("em", {}, more))
    : "";
  return el("div", { class: "text", dir: "auto" }, pieces(head), rest);
}

const PLAIN = "The same network, trained without masks, makes this mistake as well";

function errorBlock(S, pane, row) {
  const item = pane || { ...row, injected: "", doubt: null, content: rowContent(S, row) };
  const alt = item.label
    ? `validation image of class ${item.label}, predicted ${item.predicted}` : "your image, as the model sees it";
  const facts = el(
    "div", { class: "facts" },
    item.label ? el("span", {}, "labelled ", chip(item.label), item.doubt ? " " : "", doubtChip(item.doubt)) : "",
    item.predicted ? el("span", {}, "model says ", chip(item.predicted, item.label && "wrong"), " ",
      el("b", {}, item.probability)) : "",
    item.others ? el("span", { class: "id" }, item.others) : "",
    item.twin && S.data.twins.yes ? el("span", { class: "chip", title: PLAIN }, "plain model too") : "",
    item.injected ? chip(`injected: ${item.injected}`, "injected") : "",
    el("span", { class: "id" }, item.name ?? item.id),
    pane && !pane.own ? judgeBar(S, pane) : "",
  );
  const why = pane && pane.why
    ? el("p", { class: "why", "data-turnover": "why", title: pane.reason || null,
      "data-cause": pane.cause }, el("b", {}, "Why"), " ", pane.why) : "";
  const wrong = [pane?.problem, pane?.warning].filter(Boolean).map((words) =>
    el("p", { class: pane.problem ? "problem" : "warning", role: "alert", "data-turnover": "warning" }, words));
  const shown = pane?.problem ? "" : content(item, alt);
  const body = el("div", { class: "error-body" }, shown, facts, wrong);
  const reason = why && pane.cause && !pane.own ? el("div", { class: "reason" }, why, proofBlock(S, pane)) : why;
  return el("div", { class: "error", "data-turnover": "error", "data-id": item.id }, body, reason);
}

// What retraining without the named training items showed; or the button that tries it.
function proofBlock(S, pane) {
  const proof = S.proofs.get(pane.id)?.why;
  if (proof) return el("p", { class: `proof ${proof.verdict.replace(" ", "-")}`,
    "data-turnover": "proof", title: proof.hover }, proof.words);
  return proveButton(S, S.isProving(pane.id), () => S.prove(pane));
}

// Whose mistake it is, as people see it; the same key or button again takes it back.
function judgeBar(S, pane) {
  return el("span", { class: "judge", role: "group", "aria-label": "This error" },
    S.data.verdicts.map((verdict, number) => button(verdict, `judge-${number}`, () => S.judge(number),
      { "aria-pressed": String(S.verdictOf(pane.id) === number), title: `Key ${number + 1}` })));
}

function rowContent(S, row) {
  return S.data.kind === "image"
    ? { image: row.image } : { head: [[row.text, 0]], tail: [], left: 0 };
}

// How much it counts: a bar on the scale of all that is shown, with a tick at a usual item.
function strength(card, side) {
  return el(
    "div", { class: "strength", title: card.hover },
    el("span", { class: `bar ${side}`, "aria-hidden": "true" },
      el("i", { style: `width:${card.share}%` }),
      card.strength ? el("s", { style: `left:${card.tick}%` }) : ""),
    el("span", { class: "times" }, card.strength),
    card.uncertain ? chip("uncertain", "doubt") : "",
  );
}

function decisionOf(S, position) {
  const waiting = S.pending.filter((act) => act.position === position && !ON_ERRORS.includes(act.kind)).at(-1);
  if (waiting) return { ...waiting, action: waiting.kind, saving: true,
    label: S.data.classes[waiting.label] };
  return S.flags.get(position);
}

function cardBlock(S, card, side) {
  const decision = decisionOf(S, card.position);
  const focused = S.card === card.position;
  const verdict = S.proofs.get(S.item)?.items[card.position];
  return el(
    "li",
    { class: `card ${focused ? "focused" : ""}`, "data-turnover": side === "for" ? "teacher" : "opponent",
      "data-position": card.position, "data-id": card.id, "aria-current": focused ? "true" : null,
      onclick: () => S.focusCard(card.position), onfocusin: () => S.focusCard(card.position) },
    el("div", { class: "line" }, chip(card.label), doubtChip(card.doubt), strength(card, side),
      verdict ? el("span", { class: "chip verdict", title: "By retraining without it, alone or with others" },
        verdict) : ""),
    content(card, `training image labelled ${card.label}`),
    el("div", { class: "foot" },
      decisionChip(decision),
      card.injected ? chip(`injected: ${card.injected}`, "injected") : "",
      el("span", { class: "acts" }, actions(S, card, decision))),
    S.form && S.form.position === card.position ? form(S, card, decision) : "",
  );
}

function actions(S, card, decision) {
  const at = (name) => `${name}-${card.position}`;
  const act = (kind, label) => () => S.act({ kind, position: card.position, label });
  const open = () => S.openForm(card, decision);
  const flagged = decision && decision.action !== "clear";
  const relabel = card.doubt && card.doubt.index >= 0
    ? button(`Relabel to ${card.doubt.label}`, at("relabel"), act("relabel", card.doubt.index))
    : button("Relabel", at("relabel"), open);
  const set = flagged
    ? [button("Change", at("change"), open), button("Clear", at("clear"), act("clear"))]
    : [button("Drop", at("drop"), act("drop"), { title: "Key F, for the framed one" }), relabel,
      button("Keep", at("keep"), act("keep"))];
  const href = `training_data?${new URLSearchParams({ run: S.data.run, item: card.id })}`;
  return [...set, el("a", { href, "data-focus": at("open"), onclick: (e) => S.follow(e, href) }, "Open")];
}

// Any decision with a note; a relabel begins with the proposed label, else with none.
function form(S, card, decision) {
  const kinds = el("select", { "aria-label": "Decision" },
    ...["drop", "relabel", "keep"].map((kind) =>
      el("option", { value: kind, selected: S.form.kind === kind }, kind)));
  const labels = el("select", { "aria-label": "New label" },
    el("option", { value: "" }, "new label …"),
    ...S.data.classes.map((name, index) => name === card.label ? "" :
      el("option", { value: index, selected: S.form.label === index }, name)));
  const note = el("input", { "aria-label": "Note", placeholder: "Why? (optional)", maxlength: 2000 });
  note.value = S.form.note;
  const show = () => { labels.hidden = kinds.value !== "relabel"; };
  const save = (event) => {
    event.preventDefault();
    const relabel = kinds.value === "relabel";
    if (relabel && labels.value === "") return labels.focus();
    S.act({ kind: kinds.value, position: card.position, note: note.value,
      label: relabel ? Number(labels.value) : null });
  };
  kinds.addEventListener("change", show);
  show();
  return el("form", { class: "form", onsubmit: save }, kinds, labels, note,
    el("button", { type: "submit" }, "Save"),
    button("Cancel", `cancel-${card.position}`, () => S.closeForm()));
}

function side(S, cards, title, meaning, kind) {
  const empty = el("p", { class: "quiet" }, "No training item has an influence of this sign.");
  return el("section", { class: kind, "aria-label": title },
    el("h2", { title: meaning }, title),
    cards.length ? el("ol", { class: "cards" }, cards.map((card) => cardBlock(S, card, kind))) : empty);
}

function drawPane(S) {
  const row = S.rows.get(S.index);
  const pane = S.panes.get(S.item);
  if (!pane && !row) return el("p", { class: "quiet" }, "…");
  const top = errorBlock(S, pane, row);
  if (!pane) return el("div", {}, top, el("p", { class: "quiet" }, "…"));
  if (!pane.teachers.length && !pane.opponents.length) return el("div", {}, top);
  return el("div", {}, top, el("div", { class: "sides" },
    side(S, pane.teachers, "Taught it", `Training items that pushed the model towards “${pane.predicted}”`, "for"),
    side(S, pane.opponents, "Argued against", `Training items that pushed it away from “${pane.predicted}”`, "against")));
}
