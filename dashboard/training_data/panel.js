// The side panel of one training item: decisions, whom it helps and hurts, the errors it taught, its
// curve, and the items most like it.

function drawPanel(S) {
  const pane = S.panels.get(S.item);
  const head = el("div", { class: "panel-head" }, el("span", { class: "id" }, S.item),
    button("Close", "close", () => S.close(), { title: "Key Esc" }));
  if (!pane) return el("aside", { class: "panel", "aria-label": "Training item", "data-turnover": "panel" }, head,
    el("p", { class: "quiet" }, S.data.lost || "…"));
  const [decision, told] = [decisionOf(S, pane.position), S.told.get(pane.id)];
  const act = (words, kind, key, more) => button(words, `panel-${kind}`,
    () => S.act(kind, [pane.position], more), { title: key && `Key ${key}` });
  const labels = choice("New label", "panel-label",
    [["", "Other label …"], ...S.data.classes.map((name, index) => [String(index), name])
      .filter(([, name]) => name !== pane.label)], "",
    (value) => value !== "" && S.act("relabel", [pane.position], { label: Number(value) }));
  return el("aside", { class: "panel", "aria-label": "Training item", "data-turnover": "panel", "data-id": pane.id }, head,
    panelContent(S, pane),
    el("div", { class: "facts" }, el("span", {}, "labelled ", chip(pane.label)), doubtChip(pane.doubt),
      pane.injected ? chip(`injected: ${pane.injected}`, "injected") : "", decisionChip(decision)),
    pane.evidence ? el("p", { class: "why" }, pane.evidence) : "",
    el("div", { class: "decide", role: "group", "aria-label": "Decide" },
      pane.doubt ? act(`Relabel to ${pane.doubt.label}`, "accept", "R") : "", act("Drop", "drop", "D"),
      act("Keep", "keep", "G"), labels, decision && decision.action !== "clear" ? act("Clear", "clear", "C") : ""),
    el("p", { class: "standing" }, pane.facts.map(([words, hover]) => el("span", { title: hover }, `${words} `))),
    part(S, "Taught these errors", pane.taught, "No error has it among the ten that taught it most.",
      pane.more ? `… and ${pane.more.toLocaleString("en")} more` : "", told?.proofs),
    told && pane.taught.some((error) => !told.proofs[error.id]) ? proveButton(S, told.proving
      || S.pending.some((waiting) => waiting.kind === "prove"), () => S.act("prove", [pane.position])) : "",
    part(S, "Helps most", pane.helps, "", pane.known), part(S, "Hurts most", pane.hurts, ""),
    pane.curve.kept ? el("section", {}, el("h2", { title: "Mean loss over the models, epoch by epoch" }, "Its own error in training"), drawCurve(pane.curve)) : "",
    near(S, pane),
    told?.history.length ? el("section", {}, el("h2", {}, "Decisions"), el("ol", { class: "history quiet" },
      told.history.map((words) => el("li", { dir: "auto" }, words)))) : "");
}

function panelContent(S, pane) {
  if (S.data.kind === "image") return el("img", { class: "picture large", src: pane.content.image,
    alt: `training image labelled ${pane.label}` });
  const { head, tail } = pane.content;
  const words = (parts) => parts.map(([text]) => text);
  return el("div", { class: "text", dir: "auto" }, words(head),
    tail.length ? el("details", {}, el("summary", {}, "Show the rest"), words(tail)) : "");
}

// Validation items, with what retraining showed of some; a misclassified one leads to Errors.
function part(S, title, items, empty, more, proofs) {
  if (!items.length && !empty) return "";
  const shown = items.map((item) => {
    const labels = item.predicted ? [chip(item.label), " → ", chip(item.predicted, "wrong")] : [chip(item.label)];
    const proof = proofs?.[item.id];
    if (proof) labels.push(" ", el("span", { class: "chip verdict", "data-turnover": "proof", title: proof.hover },
      `retraining: ${proof.verdict}`));
    const body = [shownItem(S, item, `validation image of class ${item.label}`), el("span", { class: "marks" }, labels)];
    const href = `?${new URLSearchParams({ run: S.data.run, item: item.id })}`;
    const root = new URL("./", location.href).pathname + href;
    return el("li", { title: item.hover, "data-id": item.id }, item.predicted
      ? el("a", { href: root, onclick: (e) => S.follow(e, root) }, body) : body);
  });
  return el("section", {}, el("h2", {}, title),
    items.length ? el("ul", { class: "tiles" }, shown) : el("p", { class: "quiet" }, empty),
    more ? el("p", { class: "quiet" }, more) : "");
}

function near(S, pane) {
  return el("section", {}, el("h2", { title: "By what the model sees of them" }, "Most like it"),
    el("ul", { class: "tiles" }, pane.neighbours.map((item) => el("li", { title: item.hover },
      el("button", { type: "button", class: "row", "data-focus": `near-${item.position}`, onclick: () => S.open(item.id, true) },
        shownItem(S, item, `training image labelled ${item.label}`),
        el("span", { class: "marks" }, chip(item.label, item.label === pane.label ? "" : "wrong")))))));
}

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Two lines over the epochs: where the item was learned, and where it was not.
function drawCurve(curve) {
  const [width, height] = [320, 110];
  const most = Math.max(...curve.learned, ...curve.not, 0.01);
  const x = (epoch) => 4 + (epoch * (width - 8)) / Math.max(1, curve.learned.length - 1);
  const y = (value) => height - 4 - (value * (height - 8)) / most;
  const line = (values, kind) => svg("polyline", { class: kind,
    points: values.map((value, epoch) => `${x(epoch)},${y(value)}`).join(" ") });
  const kept = svg("line", { class: "kept", x1: x(curve.kept - 1), x2: x(curve.kept - 1), y1: 0, y2: height });
  return el("figure", {}, svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": curve.alt },
    kept, line(curve.not, "not"), line(curve.learned, "learned")),
  el("figcaption", { class: "quiet" }, el("i", { class: "key not" }), " where it was not learned ",
    el("i", { class: "key learned" }), " where it was learned"));
}
