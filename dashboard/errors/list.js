// The list: filters, the errors that match, and below it how far the work has come.

const CLASSES = ["true", "predicted"];

function drawFilters(S) {
  const pairs = S.data.confusions;
  const value = (one) => JSON.stringify([one.true, one.predicted]);
  const trues = [...new Set(pairs.map((one) => one.true))];
  const chosen = JSON.stringify(CLASSES.map((name) => S.place[name]));
  const option = (key, words) => el("option", { value: key, selected: key === chosen }, words);
  const options = [option('["",""]', "Class"), ...pairs.map((one) => option(value(one), one.words))];
  if (trues.length > 2)
    options.push(...trues.map((name) => option(value({ true: name, predicted: "" }), `${name} → any`)));
  if (!options.some((one) => one.selected))
    options.push(option(chosen, CLASSES.map((name) => S.place[name] || "any").join(" → ")));
  const classes = el("select", { "aria-label": "Class", "data-focus": "class" }, options);
  classes.addEventListener("change", () => {
    const [one, other] = JSON.parse(classes.value);
    S.filter({ true: one, predicted: other }, true);
  });
  const sort = choice("Order", "order", Object.entries(S.data.sorts), S.place.sort,
    (value) => S.filter({ sort: value }, true));
  const causes = choice("Cause", "cause",
    [["", "Cause"], ...S.data.causes.map((one) => [one.name, one.words])], S.place.cause,
    (value) => S.filter({ cause: value }, true));
  // whether ordinary training makes the mistake as well: is it this model's?
  const twins = Object.entries(S.data.twins);
  const made = twins.length ? choice("Made by which model", "twin", twins, S.place.twin,
    (value) => S.filter({ twin: value }, true)) : "";
  return el("div", { class: "filters", role: "search" }, searchField(S, "Search"), sort, causes, classes, made);
}

function drawRow(S, index) {
  const row = S.rows.get(index);
  const shown = S.data.kind === "image"
    ? el("img", { src: row.image, alt: "", class: "thumb" })
    : el("span", { class: "row-text", dir: "auto" }, row.text);
  const words = el("span", { class: "row-facts" },
    row.label ? `${row.label} → ${row.predicted} · ${row.probability}`
      : row.predicted ? `${row.predicted} · ${row.probability}` : row.waiting ? "…" : "no answer",
    row.twin && S.data.twins.yes ? el("span", { class: "twin", title: PLAIN }, " · plain too") : "",
    S.verdictOf(row.id) === undefined ? "" : chip(S.data.verdicts[S.verdictOf(row.id)], "flag"));
  return el("button", { type: "button", class: "row", "data-index": index, "data-focus": `row-${index}`,
    title: row.id, onclick: () => S.go(index, true) }, shown, words);
}

function drawRows(S) {
  const known = [...S.rows.keys()].sort((one, other) => one - other);
  return el("div", { class: "rows", role: "group", "aria-label": "Errors" },
    known.map((index) => [drawGroup(S, index), drawRow(S, index)]).flat());
}

// The name of a cause above the first of its errors, where these stand together
function drawGroup(S, index) {
  const { cause } = S.rows.get(index);
  if (S.place.sort !== "cause" || !cause || S.rows.get(index - 1)?.cause === cause) return "";
  return el("p", { class: "group", "data-turnover": "cause" },
    S.data.causes.find((one) => one.name === cause)?.words ?? cause);
}

function markRow(S, list) {
  for (const row of list.querySelectorAll(".row")) {
    const current = Number(row.dataset.index) === S.index;
    row.tabIndex = current ? 0 : -1;
    if (current) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
    if (current) row.scrollIntoView({ block: "nearest" });
  }
}

function drawFoot(S) {
  const { flagged, undo, problem, lost, progress } = S.data;
  tellTray(S);
  const done = el("div", { class: "done" },
    el("span", {}, S.pending.length ? "saving …" : flagged ? `${flagged.toLocaleString("en")} flagged` : ""),
    undo || S.pending.length ? button("Undo", "undo", () => S.act({ kind: "undo" }),
      { title: "Key U: takes back the last decision or judgement of this tab" }) : "");
  return el("div", { class: "list-foot" },
    problem ? el("p", { class: "problem", role: "alert" }, "The flag was not stored: ", problem) : "",
    S.moved ? "" : el("p", { class: "quiet" }, lost),
    el("p", { class: "quiet" }, progress), done);
}

function drawBar(S) {
  const at = S.total ? `${(S.index + 1).toLocaleString("en")} / ${S.total.toLocaleString("en")}` : "0";
  return el("div", { class: "bar-top" },
    el("strong", { class: "headline" }, el("span", { class: "run" }, S.data.run), ` · ${S.data.headline}`),
    el("span", { class: "steps" },
      button("‹", "previous", () => S.step(-1), { "aria-label": "Previous", title: "Key K", disabled: S.index <= 0 }),
      el("span", { class: "at", "aria-live": "polite" }, at),
      button("›", "next", () => S.step(1), { "aria-label": "Next", title: "Key J", disabled: S.index >= S.total - 1 }),
      button(S.listOpen ? "Close" : "List", "list", () => S.toggleList(), { class: "to-list" })));
}
