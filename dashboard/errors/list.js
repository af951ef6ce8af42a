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
  const search = el("input", { type: "search", placeholder: "Search", "aria-label": "Search",
    "data-focus": "search", maxlength: 200 });
  search.value = S.place.search;
  search.addEventListener("focus", () => { S.searched = false; });
  search.addEventListener("input", () => S.searchSoon(search.value));
  const sort = el("select", { "aria-label": "Order", "data-focus": "order" },
    ...Object.entries(S.data.sorts).map(([key, words]) =>
      el("option", { value: key, selected: key === S.place.sort }, words)));
  sort.addEventListener("change", () => S.filter({ sort: sort.value }, true));
  return el("div", { class: "filters", role: "search" }, search, sort, drawCauses(S), classes, drawTwins(S));
}

// Whether ordinary training makes the mistake as well: is it this model's?
function drawTwins(S) {
  const known = Object.entries(S.data.twins);
  if (!known.length) return "";
  const twins = el("select", { "aria-label": "Made by which model", "data-focus": "twin" },
    known.map(([key, words]) => el("option", { value: key, selected: key === S.place.twin }, words)));
  twins.addEventListener("change", () => S.filter({ twin: twins.value }, true));
  return twins;
}

function drawCauses(S) {
  const option = (name, words) => el("option", { value: name, selected: name === S.place.cause }, words);
  const causes = el("select", { "aria-label": "Cause", "data-focus": "cause" },
    option("", "Cause"), ...S.data.causes.map((one) => option(one.name, one.words)));
  causes.addEventListener("change", () => S.filter({ cause: causes.value }, true));
  return causes;
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
  const href = `flags?${new URLSearchParams({ run: S.data.run })}`;
  const tray = el("div", { class: "tray", "data-turnover": "tray" },
    el("span", {}, S.pending.length ? "saving …" : `${flagged.toLocaleString("en")} flagged`),
    undo || S.pending.length ? button("Undo", "undo", () => S.act({ kind: "undo" }),
      { title: "Key U: takes back the last decision or judgement of this tab" }) : "",
    el("a", { href, "data-focus": "flags", onclick: (e) => S.follow(e, href) }, "Flags & export"));
  return el("div", { class: "list-foot" },
    problem ? el("p", { class: "problem", role: "alert" }, "The flag was not stored: ", problem) : "",
    S.moved ? "" : el("p", { class: "quiet" }, lost),
    el("p", { class: "quiet" }, progress), tray);
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
