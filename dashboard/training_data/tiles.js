// Filters, the queue of doubts, decisions on many, and the items as a grid or a list, of which only
// the visible ones are in the document.

function drawFilters(S) {
  const { data, place } = S;
  const set = (name) => (value) => S.filter({ [name]: value }, true);
  const pick = (label, name, pairs) => choice(label, name, pairs, S.usual(name), set(name));
  const views = el("span", { class: "views", role: "group", "aria-label": "View" },
    Object.entries(data.views).map(([view, words]) => button(words, `view-${view}`,
      () => { S.place = { ...place, view }; S.address(true); S.draw(); S.send(); },
      { "aria-pressed": String(S.usual("view") === view) })));
  const maps = S.usual("view") !== "map" ? [] : [
    pick("Near each other", "places", data.places), pick("Colour", "colour", data.colours),
    data.ways.length > 1 ? pick("Way", "way", data.ways) : ""];
  return el("div", { class: "filters", role: "search" }, views, pick("Order", "sort", Object.entries(data.sorts)),
    pick("Class", "label", [["", "All classes"], ...data.classes.map((name) => [name, name])]),
    pick("Flags", "flagged", Object.entries(data.flaggedBy)), searchField(S, data.kind === "text" ? "Word or id" : "Id or mark"), maps);
}

// The queue: one threshold, how many labels that is, and one button that accepts them all.
function drawDoubts(S) {
  if (!S.data.suspects) return el("span");
  const count = S.doubtful().length;
  const slider = el("input", { type: "range", min: 50, max: 100, value: S.least(), "data-focus": "least",
    "aria-label": "Labels in doubt from, per cent", "aria-valuetext": `${S.least()} %, ${count} labels` });
  slider.addEventListener("input", () => {
    S.place = { ...S.place, least: slider.value };
    S.address(false);
    S.draw();
  });
  const words = count === 1 ? "1 item" : `${count.toLocaleString("en")} items`;
  return el("div", { class: "doubts", "data-turnover": "doubts" },
    el("label", {}, "Label in doubt from ", slider, el("b", {}, ` ${S.least()} %`)),
    button(`Relabel ${words} as proposed`, "accept-all", () => S.act("accept", S.doubtful()),
      { class: "main", disabled: !count }));
}

function drawActs(S) {
  const { data } = S;
  const many = S.selected.size;
  const at = (words, kind, key) => button(words, kind, () => S.decide(kind), { title: `Key ${key}` });
  const acts = many ? [el("b", {}, `${many.toLocaleString("en")} selected`), at("Drop", "drop", "D"),
    at("Relabel as proposed", "accept", "R"), at("Keep", "keep", "G"), at("Clear flags", "clear", "C"),
    button("Select none", "none", () => S.select([]), { title: "Key Esc" })] : [];
  tellTray(S);
  const count = `${S.total.toLocaleString("en")} of ${data.items.toLocaleString("en")}`;
  return el("div", { class: "acts-bar" },
    data.problem ? el("p", { class: "problem", role: "alert" }, "The flag was not stored: ", data.problem) : "",
    el("span", { class: "quiet" }, S.awaiting ? "…" : `${count} items`),
    button("Select all shown", "all", () => S.select(S.order), { disabled: !S.total }), ...acts,
    el("span", { class: "done", "aria-live": "polite" },
      el("span", {}, S.pending.length ? "saving …" : S.done),
      button("Undo", "undo", () => S.act("undo", []), { disabled: !data.undo && !S.pending.length, title: "Key U" })));
}

function drawItems(S) {
  if (!S.total && !S.awaiting && S.rowsName) return el("div", { class: "box", role: "status" },
    el("b", {}, "No training item matches"), el("p", {}, "Clear the search, or choose another class or flag."));
  const box = el("div", { class: "rows", role: "group", "aria-label": "Training items", tabindex: 0 },
    el("div", { class: "space" }));
  box.addEventListener("scroll", () => S.fill(), { passive: true });
  new ResizeObserver(() => S.fill()).observe(box);
  return box;
}

// Puts the visible items into the box, and asks for those that Python has not sent.
function fillItems(S) {
  const box = S.root.querySelector(".rows");
  if (!box) return;
  const space = box.firstChild;
  const style = getComputedStyle(S.root);
  const size = (name) => parseFloat(style.getPropertyValue(name));
  const grid = S.usual("view") === "grid";
  const columns = grid ? Math.max(1, Math.floor(box.clientWidth / size("--tile"))) : 1;
  const height = size(grid ? "--tall" : "--row");
  box.lay = { columns, height };
  space.style.height = `${Math.ceil(S.total / columns) * height}px`;
  const first = Math.max(0, Math.floor(box.scrollTop / height) - 1) * columns;
  const last = Math.min(S.total, (Math.ceil((box.scrollTop + box.clientHeight) / height) + 1) * columns);
  const shown = S.order.slice(first, last);
  const facts = JSON.stringify([columns, height, box.clientWidth, first, last, S.rowsName, S.index, S.item, S.least(),
    shown.map((position) => [S.rows.has(position), S.selected.has(position), decisionOf(S, position)])]);
  if (space.facts !== facts) {
    space.facts = facts;
    const focused = S.root.getRootNode().activeElement?.closest?.(".item")?.dataset.position;
    space.replaceChildren(...shown.map((position, at) => drawItem(S, position, first + at, columns, height)));
    if (focused) space.querySelector(`[data-position="${focused}"] button`)?.focus({ preventScroll: true });
  }
  const lacking = shown.findIndex((position) => !S.rows.has(position));
  if (lacking >= 0 && !S.awaiting) {
    S.looked = first + lacking;
    S.sendSoon();
  }
}

function drawItem(S, position, index, columns, height) {
  const row = S.rows.get(position);
  const place = `left:${(100 / columns) * (index % columns)}%;top:${Math.floor(index / columns) * height}px;width:${100 / columns}%;height:${height}px`;
  const current = index === S.index;
  const doubted = S.chances[index] >= S.least();
  const box = el("div", { class: `item ${doubted ? "doubted" : ""} ${S.selected.has(position) ? "selected" : ""}`,
    style: place, "data-turnover": "item", "data-position": position, "data-id": row?.id,
    "aria-current": current ? "true" : null });
  if (!row) return box;
  const tick = el("input", { type: "checkbox", class: "tick", tabindex: -1, "aria-label": `Select ${row.id}`,
    onclick: (event) => S.toggle(index, event.shiftKey) });
  tick.checked = S.selected.has(position);
  const click = (event) => {
    if (event.shiftKey || event.ctrlKey || event.metaKey) S.toggle(index, event.shiftKey);
    else S.go(index, true, true);
  };
  box.append(el("button", { type: "button", class: "row", tabindex: current ? 0 : -1, title: row.id, onclick: click,
    onmousedown: (event) => { if (event.shiftKey) event.preventDefault(); } },
    shownItem(S, row, `training image labelled ${row.label}`),
    el("span", { class: "marks" }, chip(row.label), doubtChip(row.doubt), decisionChip(decisionOf(S, position)),
      row.injected ? chip("injected", "injected") : "")), tick);
  return box;
}

function shownItem(S, row, alt) {
  return S.data.kind === "image" ? el("img", { src: row.image, alt, class: "picture", draggable: "false" })
    : el("span", { class: "row-text", dir: "auto" }, row.text);
}
