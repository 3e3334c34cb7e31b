// Search, sort, filters, masks and keys. Without this script every page shows everything, unsorted.
// State is kept in the URL (#q=road&category=object&show=detector&sort=label), also in links to units and back.
"use strict";
(() => {
  const root = document.documentElement;
  const typing = () => /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");

  // Masks: the choice is stored, if the browser allows it.
  const modes = ["dim", "outline", "off"];
  const memory = {
    get() { try { return localStorage.getItem("masks"); } catch { return null; } },
    set(mode) { try { localStorage.setItem("masks", mode); } catch { /* a private window: this page only */ } },
  };
  const masks = document.querySelector(".masks");
  function showMasks(mode) {
    root.dataset.masks = mode;
    masks.querySelector(`[value=${mode}]`).checked = true;
    memory.set(mode);
  }
  if (document.querySelector(".tile, .tiles")) {
    masks.hidden = false;
    if (modes.includes(memory.get())) showMasks(memory.get());
    masks.addEventListener("change", (event) => showMasks(event.target.value));
  }

  // Images of cards are loaded when they are scrolled near: a layer of 2,048 units has 12,288 of them.
  const near = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (isIntersecting) {
        near.unobserve(target);
        target.innerHTML = target.querySelector("noscript").textContent;
      }
    }
  }, { rootMargin: "800px" });
  for (const waiting of document.querySelectorAll(".tiles > noscript")) near.observe(waiting.parentNode);

  // Browse: cards of units, or rows of concepts.
  const browse = document.querySelector(".browse");
  const defaults = { q: "", sort: "iou", show: "all", category: "" };
  const byIou = (a, b) => b.iou - a.iou || a.unit - b.unit;
  const orders = {
    iou: byIou,
    unit: (a, b) => a.unit - b.unit,
    label: (a, b) => (a.label === "") - (b.label === "") || a.label.localeCompare(b.label) || byIou(a, b),
  };
  const entries = !browse ? [] : [...browse.querySelectorAll(".unit, .entry")].map((node) => ({
    node,
    unit: Number(node.dataset.unit),
    iou: Number(node.dataset.iou),
    label: node.dataset.label,
    text: node.dataset.label.toLowerCase(),
    category: node.dataset.category,
    state: ["detector", "below", "dead"].find((state) => node.classList.contains(state)),
  }));
  const form = browse?.querySelector(".controls");
  let sorted = "iou";

  function readState() {
    const state = { ...defaults };
    for (const [key, value] of new URLSearchParams(location.hash.slice(1))) if (key in defaults) state[key] = value;
    if (!(state.sort in orders)) state.sort = defaults.sort;
    return state;
  }

  // A number finds that unit and labels that contain it; other text is searched in labels.
  const matches = (entry, state, wanted) =>
    (state.show === "all" || entry.state === state.show) &&
    (wanted.size === 0 || wanted.has(entry.category)) &&
    (state.q === "" || entry.text.includes(state.q.toLowerCase()) || `${entry.unit}` === state.q.replace(/^(unit\s*|#)/i, ""));

  function apply(state) {
    if (form.sort && sorted !== state.sort) {
      entries.sort(orders[state.sort]);
      entries[0]?.node.parentNode.append(...entries.map((entry) => entry.node));
      sorted = state.sort;
    }
    const wanted = new Set(state.category.split(",").filter(Boolean).map(decodeURIComponent));
    let shown = 0;
    for (const entry of entries) {
      const visible = matches(entry, state, wanted);
      entry.node.hidden = !visible;
      shown += visible;
    }
    for (const name of ["q", "sort", "show"]) if (form[name] && form[name].value !== state[name]) form[name].value = state[name];
    for (const toggle of form.querySelectorAll(".toggle"))
      toggle.setAttribute("aria-pressed", wanted.has(toggle.dataset.category));
    form.querySelector(".shown-count").textContent =
      `${shown.toLocaleString("en")} of ${entries.length.toLocaleString("en")}`;
    form.querySelector(".clear").hidden = shown === entries.length;
    browse.querySelector(".none").hidden = shown > 0 || entries.length === 0;
  }

  function keep(state) {
    const query = new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== defaults[key]));
    history.replaceState(null, "", query.size ? `#${query}` : location.pathname + location.search);
    apply(state);
  }

  if (form) {
    form.hidden = false;
    const state = () => ({
      q: form.q.value.trim(),
      sort: form.sort?.value ?? defaults.sort,
      show: form.show?.value ?? defaults.show,
      category: [...form.querySelectorAll(".toggle[aria-pressed=true]")]
        .map((toggle) => encodeURIComponent(toggle.dataset.category)).join(","),
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => keep(state()));
    form.addEventListener("click", (event) => {
      const toggle = event.target.closest(".toggle");
      if (toggle) {
        toggle.setAttribute("aria-pressed", toggle.getAttribute("aria-pressed") !== "true");
        keep(state());
      } else if (event.target.closest(".clear")) {
        keep({ ...defaults, sort: form.sort?.value ?? defaults.sort });
        form.q.focus();
      }
    });
    addEventListener("hashchange", () => apply(readState()));
    apply(readState());
  }

  // The state of the page is kept in links to a unit, to its neighbors, and back up.
  const carry = (event) => {
    const link = event.target.closest?.(".unit h3 a, .entry th a, [data-keep]");
    if (link && !link.hash) link.hash = location.hash;
  };
  for (const kind of ["focusin", "pointerdown"]) document.addEventListener(kind, carry);

  for (const table of document.querySelectorAll(".sortable")) {
    const body = table.tBodies[0];
    const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
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

  // Keys.
  const dialog = document.querySelector(".keys");
  const help = document.querySelector(".help");
  help.hidden = false;
  help.addEventListener("click", () => dialog.showModal());

  function moveInGrid(key) {
    const links = entries.filter((entry) => !entry.node.hidden).map((entry) => entry.node.querySelector("h3 a, th a"));
    const at = links.indexOf(document.activeElement);
    if (at < 0 || browse.classList.contains("rows")) return false;
    const top = (link) => link.closest(".unit").offsetTop;
    const columns = links.filter((link) => top(link) === top(links[0])).length;
    const next = links[at + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key]];
    next?.focus();
    return true;
  }

  const follow = (selector) => {
    const link = document.querySelector(selector);
    if (link) {
      if (link.matches("[data-keep]")) link.hash = location.hash;
      link.click();
    }
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open || typing()) return;
    if (event.key.startsWith("Arrow")) {
      if (browse && moveInGrid(event.key)) event.preventDefault();
      else if (event.key === "ArrowLeft" && !browse) follow("[rel=prev]");
      else if (event.key === "ArrowRight" && !browse) follow("[rel=next]");
    } else if (event.key === "/" && form) {
      event.preventDefault();
      form.q.focus();
    } else if (event.key === "m" && !masks.hidden) {
      showMasks(modes[(modes.indexOf(root.dataset.masks) + 1) % modes.length]);
    } else if (event.key === "u") {
      follow("[rel=up]");
    } else if (event.key === "?") {
      dialog.showModal();
    }
  });
})();
