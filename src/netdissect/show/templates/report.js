// Tabs, search, sort and filters. Without this script the page shows everything, unsorted.
// The state lives in the address: #layer-0?q=road&category=object&show=detector&sort=label, or #u0-12 for a unit.
"use strict";
(() => {
  const defaults = { q: "", sort: "iou", show: "all", category: "" };
  const layers = [...document.querySelectorAll("section.layer")].map((section) => {
    const cards = [...section.querySelectorAll(".unit")].map((node) => ({
      node,
      unit: Number(node.dataset.unit),
      iou: Number(node.dataset.iou),
      label: node.dataset.label,
      text: node.dataset.label.toLowerCase(),
      category: node.dataset.category,
      state: node.dataset.state,
    }));
    return {
      section,
      cards,
      sorted: "iou",
      form: section.querySelector(".controls"),
      grid: section.querySelector(".units"),
      none: section.querySelector(".none"),
    };
  });

  const byIou = (a, b) => b.iou - a.iou || a.unit - b.unit;
  const orders = {
    iou: byIou,
    unit: (a, b) => a.unit - b.unit,
    label: (a, b) => (a.label === "") - (b.label === "") || a.label.localeCompare(b.label) || byIou(a, b),
  };

  // A number finds that unit, and labels that hold it; anything else is looked for in labels.
  const matches = (card, state, wanted) =>
    (state.show === "all" || card.state === state.show) &&
    (wanted.size === 0 || wanted.has(card.category)) &&
    (state.q === "" || card.text.includes(state.q.toLowerCase()) || `${card.unit}` === state.q.replace(/^(unit\s*|#)/i, ""));

  function read() {
    const [place, query] = location.hash.slice(1).split("?");
    const unit = /^u(\d+)-(\d+)$/.exec(place);
    const layer = unit ? Number(unit[1]) : Number((/^layer-(\d+)$/.exec(place) || [0, 0])[1]);
    const state = { ...defaults };
    for (const [key, value] of new URLSearchParams(query || "")) if (key in defaults) state[key] = value;
    if (!(state.sort in orders)) state.sort = defaults.sort;
    return { layer: layer < layers.length ? layer : 0, place, unit: unit && place, state };
  }

  function apply(layer, state) {
    const { cards, form, grid, none } = layer;
    if (layer.sorted !== state.sort) {
      cards.sort(orders[state.sort]);
      grid.append(...cards.map((card) => card.node));
      layer.sorted = state.sort;
    }
    const wanted = new Set(state.category.split(",").filter(Boolean).map(decodeURIComponent));
    let shown = 0;
    for (const card of cards) {
      const visible = matches(card, state, wanted);
      card.node.hidden = !visible;
      shown += visible;
    }
    for (const name of ["q", "sort", "show"]) if (form[name].value !== state[name]) form[name].value = state[name];
    for (const toggle of form.querySelectorAll(".toggle"))
      toggle.setAttribute("aria-pressed", wanted.has(toggle.dataset.category));
    form.querySelector(".tally").textContent = `${shown.toLocaleString("en")} of ${cards.length.toLocaleString("en")} units`;
    form.querySelector(".clear").hidden = shown === cards.length;
    none.hidden = shown > 0 || cards.length === 0;
  }

  function show(index) {
    layers.forEach((layer, place) => { layer.section.hidden = place !== index; });
    document.querySelectorAll(".tabs a").forEach((link, place) => {
      if (place === index) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  }

  function go(event) {
    if (!layers.length) return;
    const { layer, place, unit, state } = read();
    if (place && !unit && !place.startsWith("layer-")) return; // an ordinary anchor of the page
    show(layer);
    apply(layers[layer], state);
    document.querySelectorAll(".found-here").forEach((node) => node.classList.remove("found-here"));
    const target = unit && document.getElementById(unit);
    if (target) {
      target.classList.add("found-here");
      target.scrollIntoView({ block: "center" });
      target.focus({ preventScroll: true });
    } else if (event && place) {
      layers[layer].section.scrollIntoView();
    }
  }

  function keep(index, state) {
    const query = new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== defaults[key]));
    history.replaceState(null, "", `#layer-${index}${query.size ? `?${query}` : ""}`);
    apply(layers[index], state);
  }

  layers.forEach(({ form }, index) => {
    form.hidden = false;
    const state = () => ({
      q: form.q.value.trim(),
      sort: form.sort.value,
      show: form.show.value,
      category: [...form.querySelectorAll(".toggle[aria-pressed=true]")]
        .map((toggle) => encodeURIComponent(toggle.dataset.category)).join(","),
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => keep(index, state()));
    form.addEventListener("click", (event) => {
      const toggle = event.target.closest(".toggle");
      if (toggle) {
        toggle.setAttribute("aria-pressed", toggle.getAttribute("aria-pressed") !== "true");
        keep(index, state());
      } else if (event.target.closest(".clear")) {
        keep(index, { ...defaults, sort: form.sort.value });
        form.q.focus();
      }
    });
  });

  for (const table of document.querySelectorAll(".sortable")) {
    const body = table.tBodies[0];
    const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const numeric = body.rows.length > 0 && "value" in body.rows[0].cells[column].dataset;
        const rising = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "descending" : !numeric;
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const compare = numeric
          ? (a, b) => value(a, column) - value(b, column)
          : (a, b) => value(a, column).localeCompare(value(b, column));
        body.append(...[...body.rows].sort((a, b) => (rising ? compare(a, b) : compare(b, a))));
      });
    });
  }

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
    const open = layers.find(({ section }) => !section.hidden);
    if (open) { event.preventDefault(); open.form.q.focus(); }
  });

  addEventListener("hashchange", go);
  go();
})();
