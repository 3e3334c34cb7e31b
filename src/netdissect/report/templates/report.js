// Search, sort, filters, masks and keys. Without this script every page shows everything, unsorted.
// State is kept in the URL (#q=road&category=object&show=detector&sort=label), also in links to units and back.
"use strict";
(() => {
  const root = document.documentElement;
  const typing = () => /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");

  // Masks: the choice is stored, if the browser allows it.
  const modes = ["dim", "outline", "both", "off"];
  const memory = {
    get() { try { return localStorage.getItem("masks"); } catch { return null; } },
    set(mode) { try { localStorage.setItem("masks", mode); } catch { /* a private window: this page only */ } },
  };
  const masks = document.querySelector(".masks");
  function showMasks(mode) {
    root.dataset.masks = mode;
    masks.querySelector(`[value=${mode}]`).checked = true;
    memory.set(mode);
    drawConcepts();
  }
  // Masks of concepts are drawn when they are first shown. A script beside the image has those of all its concepts, by
  // view box and label id: numbers of pixels without and with the concept, as netdissect.plots.outlines.mask_runs_text
  // writes them.
  function drawConcepts() {
    const drawn = root.dataset.masks === "both" ? "svg" : "svg.noisy";
    for (const drawing of document.querySelectorAll(`.tile ${drawn}[data-concept]`)) {
      const label = drawing.dataset.concept;
      delete drawing.dataset.concept;
      masksOf(drawing.parentNode.querySelector("img").src).then((masks) => drawConcept(drawing, masks, label));
    }
  }
  function drawConcept(drawing, masks, label) {
    const runs = masks[drawing.getAttribute("viewBox")]?.[label];
    if (runs === undefined) return;
    const path = drawing.firstElementChild.cloneNode();
    path.setAttribute("class", drawing.matches(".noisy") ? "c m" : "c");
    path.setAttribute("d", rowsOf(runs, drawing.viewBox.baseVal.width / 2));
    drawing.prepend(path);
  }
  const asked = new Map();
  function masksOf(image) {
    if (!asked.has(image)) {
      asked.set(image, new Promise((resolve) => {
        const script = document.createElement("script");
        script.src = image.replace(/\.webp$/, ".js");
        script.addEventListener("load", () => resolve(script.masks));
        document.head.append(script);
      }));
    }
    return asked.get(image);
  }
  function rowsOf(text, width) {
    const numbers = [];
    for (let index = 0; index < text.length;) {
      let number = 0, bits = 0, code;
      do {
        code = text.charCodeAt(index++) - 63;
        number |= (code & 31) << (5 * bits++);
      } while (code & 32);
      if (code & 16) number |= -1 << (5 * bits);
      numbers.push(numbers.length > 1 ? number + numbers.at(-2) : number);
    }
    let start = 0, path = "";
    numbers.forEach((number, index) => {
      const end = start + number;
      for (let at = start; index % 2 && at < end;) {
        const count = Math.min(end - at, width - at % width);
        path += `M${2 * (at % width)} ${2 * Math.floor(at / width)}l${2 * count} 0 0 2-${2 * count} 0z`;
        at += count;
      }
      start = end;
    });
    return path;
  }
  new MutationObserver(drawConcepts).observe(document.body, { childList: true, subtree: true });
  drawConcepts();
  if (document.querySelector(".tile, .tiles, [data-tiles]")) {
    masks.hidden = false;
    if (modes.includes(memory.get())) showMasks(memory.get());
    masks.addEventListener("change", (event) => showMasks(event.target.value));
  }
  document.addEventListener("error", (event) => {
    if (!event.target.matches?.(".tile img")) return;
    const gone = document.createElement("span");
    gone.className = "gone";
    gone.textContent = "not found";
    event.target.parentNode.replaceChildren(gone);
  }, true);

  // Images of cards are loaded when they are scrolled near: a layer of 2,048 units has 12,288 of them.
  const near = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (isIntersecting) {
        near.unobserve(target);
        target.innerHTML = target.querySelector("noscript").innerHTML;
      }
    }
  }, { rootMargin: "800px" });
  const watchTiles = () => {
    for (const waiting of document.querySelectorAll(".tiles > noscript")) near.observe(waiting.parentNode);
  };
  watchTiles();

  // Browse: cards of units, or rows of concepts. On disk all are in the page, and the first `shown` that match are
  // shown. In the explorer live.js asks for the units that match and are near the screen.
  const browse = document.querySelector(".browse");
  const grid = browse?.querySelector(".units");
  const PAGE = Number(grid?.dataset.page);
  const live = Boolean(grid) && document.body.classList.contains("explorer");
  const defaults = { q: "", sort: "iou", show: "all", category: "", quantile: "", min_iou: "" };
  const byIou = (a, b) => b.iou - a.iou || a.unit - b.unit;
  const form = browse?.querySelector(".controls");
  const measures = [...(form?.querySelectorAll("option[data-name]") ?? [])].map((option) => [option.value, option.dataset.name]);
  const byScore = (key) => (a, b) => (b.scores[key] ?? -1e9) - (a.scores[key] ?? -1e9) || byIou(a, b);
  const orders = {
    ...Object.fromEntries(measures.map(([key]) => [key, byScore(key)])),
    iou: byIou,
    unit: (a, b) => a.unit - b.unit,
    label: (a, b) => (a.label === "") - (b.label === "") || a.label.localeCompare(b.label) || byIou(a, b),
    similarity: byIou, // to the words of the search: the explorer sorts
  };
  const read = () => !browse ? [] : [...browse.querySelectorAll(".unit, .entry")].map((node) => ({
    node,
    unit: Number(node.dataset.unit),
    iou: Number(node.dataset.iou),
    label: node.dataset.label,
    text: node.dataset.label.toLowerCase(),
    scores: JSON.parse(node.dataset.scores ?? "{}"),
    category: node.dataset.category,
    state: ["detector", "below", "dead"].find((state) => node.classList.contains(state)),
  }));
  let entries = read();
  const more = browse?.querySelector(".more button");
  let sorted = "iou";
  let shown = PAGE;
  const number = (value) => value.toLocaleString("en");

  function readState() {
    const state = { ...defaults };
    const given = [...new URLSearchParams(location.search), ...new URLSearchParams(location.hash.slice(1))];
    for (const [key, value] of given) if (key in defaults) state[key] = value;
    if (!(state.sort in orders)) state.sort = defaults.sort;
    return state;
  }
  const chosen = (state) => state.category.split(",").filter(Boolean).map(decodeURIComponent);

  // A number finds that unit and labels that contain it; other text is searched in labels.
  const matches = (entry, state, wanted) =>
    (state.show === "all" || entry.state === state.show) &&
    (wanted.size === 0 || wanted.has(entry.category)) &&
    (state.q === "" || entry.text.includes(state.q.toLowerCase()) || `${entry.unit}` === state.q.replace(/^(unit\s*|#)/i, ""));

  function apply(state) {
    for (const name of Object.keys(defaults)) if (form[name] && form[name].value !== state[name]) form[name].value = state[name];
    for (const toggle of form.querySelectorAll(".toggle"))
      toggle.setAttribute("aria-pressed", chosen(state).includes(toggle.dataset.category));
    if (live) document.dispatchEvent(new CustomEvent("units", { detail: { ...state, category: chosen(state), offset: back?.offset ?? 0, all: shown > PAGE } }));
    else filter(state);
  }

  function filter(state) {
    if (form.sort && sorted !== state.sort) {
      entries.sort(orders[state.sort]);
      entries[0]?.node.parentNode.append(...entries.map((entry) => entry.node));
      sorted = state.sort;
    }
    const wanted = new Set(chosen(state));
    let total = 0;
    for (const entry of entries) {
      total += matches(entry, state, wanted);
      entry.node.hidden = !matches(entry, state, wanted) || (grid !== null && total > shown);
    }
    count(total, entries.length);
    chooseRows(state, wanted);
  }

  // A layer with more units than pages has a list of all of them. Only the rows on screen are in the page.
  const ROW = 30;
  const list = document.querySelector(".all-units");
  let rows = [];
  let listed = [];
  function chooseRows(state, wanted) {
    if (!list) return;
    listed = rows.filter((row) => matches(row, state, wanted)).sort(orders[state.sort]);
    list.firstChild.style.height = `${ROW * listed.length}px`;
    list.firstChild.setAttribute("aria-rowcount", listed.length);
    drawRows();
  }
  function drawRows() {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 10);
    const seen = listed.slice(first, first + Math.ceil(list.clientHeight / ROW) + 20);
    const body = list.firstChild.firstChild;
    body.style.transform = `translateY(${ROW * first}px)`;
    body.replaceChildren(...seen.map((row, at) => {
      const line = document.createElement("div");
      line.role = "row";
      line.setAttribute("aria-rowindex", first + at + 1);
      for (const [name, value] of [["number", row.unit], ["label", row.label || "no concept"], ["category", row.category],
        ["iou", row.iouText], ["state", row.state === "below" ? "not a detector" : row.state], ...row.scoreTexts]) {
        const cell = document.createElement(row.page && name === "number" ? "a" : "span");
        if (cell.matches("a")) cell.href = `u${row.unit}.html`;
        cell.textContent = value;
        const holder = document.createElement("span");
        holder.role = "cell";
        holder.className = name;
        holder.append(cell);
        line.append(holder);
      }
      return line;
    }));
  }
  addEventListener("DOMContentLoaded", () => {
    const all = globalThis.unitRows;
    if (!list || !all) return;
    rows = all.unit.map((unit, at) => {
      const label = all.labels[all.label[at]] ?? "";
      return { unit, label, text: label.toLowerCase(), category: all.categories[all.label[at]] ?? "", state: all.state[at],
        page: all.page[at], iou: -at, iouText: all.iou[at],
        scores: Object.fromEntries(measures.filter(([, name]) => all.scores[name]?.[at]).map(([key, name]) => [key, Number(all.scores[name][at])])),
        scoreTexts: Object.entries(all.scores).map(([name, texts]) => ["score", texts[at] && `${name} ${texts[at]}`]) };
    });
    const state = readState();
    chooseRows(state, new Set(chosen(state)));
    list.addEventListener("scroll", drawRows, { passive: true });
    addEventListener("resize", drawRows);
  });

  function count(total, all) {
    const visible = grid ? Math.min(shown, total) : total;
    form.querySelector(".shown-count").textContent =
      visible < total ? `${number(visible)} of ${number(total)} shown` : `${number(total)} of ${number(all)}`;
    form.querySelector(".clear").hidden = total === all;
    browse.querySelector(".none").hidden = total > 0 || all === 0;
    if (more) more.hidden = visible >= total;
  }

  function keep(state) {
    const query = new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== defaults[key]));
    shown = PAGE;
    history.replaceState(null, "", query.size ? `#${query}` : location.pathname + location.search);
    apply(state);
  }

  // On a unit's page previous and next follow the order in which filters and sorting have left the units.
  const folder = location.pathname.replace(/[^/]*$/, "");
  function keepOrder() {
    const shownUnits = entries.filter((entry) => !entry.node.hidden && entry.node.querySelector("h3 a")).map((entry) => entry.unit);
    try { sessionStorage.setItem("order", JSON.stringify({ folder, units: shownUnits })); } catch { /* not allowed: by number */ }
  }
  function followOrder() {
    const steps = document.querySelector(".steps");
    const given = new URLSearchParams(location.hash.slice(1));
    if (!steps || !["q", "sort", "show", "category"].some((name) => given.has(name))) return;
    let order = null;
    try { order = JSON.parse(sessionStorage.getItem("order")); } catch { /* likewise */ }
    const at = order?.folder === folder ? order.units.indexOf(Number(location.pathname.match(/u(\d+)\.html$/)?.[1])) : -1;
    if (at < 0) return;
    steps.replaceChildren(...[["prev", at - 1, "←"], ["next", at + 1, "→"]].filter(([, to]) => to in order.units).map(([rel, to, arrow]) => {
      const link = document.createElement("a");
      Object.assign(link, { rel, href: `u${order.units[to]}.html`, textContent: rel === "prev" ? `${arrow} ${order.units[to]}` : `${order.units[to]} ${arrow}` });
      link.dataset.keep = "";
      return link;
    }));
  }
  followOrder();

  // Going back finds the units that were shown, and the card that was at the top.
  const tops = () => entries.filter((entry) => !entry.node.hidden).map(({ node }) => [node, node.getBoundingClientRect().top]);
  const remember = () => {
    const [node, top] = tops().find(([, each]) => each >= 0) ?? [];
    const offset = Number(node?.closest(".block")?.dataset.offset ?? 0);
    history.replaceState(node ? { shown, offset, unit: node.dataset.unit, top, scroll: scrollY } : null, "");
  };
  let back = grid ? history.state : null;
  function land() {
    const card = back?.scroll && grid.querySelector(`[data-unit="${back.unit}"]`);
    if (card) settle(card, back.top, 4);
    else if (!back && location.hash.includes("=")) {
      browse.scrollIntoView({ behavior: "instant" });
      const unit = Number(new URLSearchParams(location.hash.slice(1)).get("unit") ?? -1);
      const left = grid.querySelector(`[data-unit="${unit}"]:not([hidden])`);
      if (left) settle(left, innerHeight / 4, 4);
      left?.querySelector("h3 a").focus({ preventScroll: true });
    }
    back = {};
  }
  // Cards get their height when they are near the screen, so that the first jump may miss.
  function settle(card, top, frames) {
    scrollBy({ top: card.getBoundingClientRect().top - top, behavior: "instant" });
    if (frames) requestAnimationFrame(() => settle(card, top, frames - 1));
  }

  if (form) {
    form.hidden = false;
    const state = () => Object.fromEntries(Object.keys(defaults).map((name) => [name, name === "category"
      ? [...form.querySelectorAll(".toggle[aria-pressed=true]")].map((toggle) => encodeURIComponent(toggle.dataset.category)).join(",")
      : form[name]?.value.trim() ?? defaults[name]]));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => keep(state()));
    form.addEventListener("click", (event) => {
      const toggle = event.target.closest(".toggle");
      if (toggle) {
        toggle.setAttribute("aria-pressed", toggle.getAttribute("aria-pressed") !== "true");
        keep(state());
      } else if (event.target.closest(".clear")) {
        keep({ ...state(), q: "", show: defaults.show, category: "" });
        form.q.focus();
      }
    });
    more?.addEventListener("click", () => {
      shown = Infinity;
      apply(state());
    });
    addEventListener("hashchange", () => apply(readState()));
    if (grid) {
      history.scrollRestoration = "manual";
      shown = back?.shown ?? PAGE;
      let waiting;
      addEventListener("scroll", () => { clearTimeout(waiting); waiting = setTimeout(remember, 100); }, { passive: true });
      document.addEventListener("click", (event) => {
        if (event.target.closest?.("a")) remember();
        if (event.target.closest?.(".unit h3 a")) keepOrder();
      }, true);
    }
    if (live && !back && location.hash.length < 2 && !location.search) count(Number(grid.dataset.total), Number(grid.dataset.all));
    else apply(readState());
    if (!live) land();
  }

  // The state of the page is kept in links to a unit, to its neighbors, and back up.
  const carry = (event) => {
    const link = event.target.closest?.(".unit h3 a, .entry th a, [data-keep]");
    if (link && !link.hash) link.hash = hashFor(link);
  };
  // Up from a unit leads to its card.
  function hashFor(link) {
    const hash = new URLSearchParams(location.hash.slice(1));
    hash.delete("unit");
    if (link.dataset.unit) hash.set("unit", link.dataset.unit);
    return hash.size ? `#${hash}` : "";
  }
  for (const kind of ["focusin", "pointerdown"]) document.addEventListener(kind, carry);

  function makeSortable(table) {
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
  const makeAllSortable = () => document.querySelectorAll(".sortable:not(:has(th button))").forEach(makeSortable);
  makeAllSortable();

  // A term opens its definition, with a link to the list of terms, by hover, focus and tap; Escape closes it.
  const definition = document.createElement("span");
  definition.className = "definition";
  definition.id = "definition";
  definition.setAttribute("role", "tooltip");
  let defined = null;
  let closing;
  function define(term) {
    if (!term || term === defined) return;
    undefine();
    defined = term;
    const link = document.createElement("a");
    link.href = `${document.querySelector("link[rel=terms]").getAttribute("href")}#${term.dataset.term}`;
    link.textContent = "All terms";
    definition.replaceChildren(definitions[term.dataset.term].replaceAll(/\b([a-z])-/g, "$1\u2011"), " ", link);
    term.after(definition);
    term.setAttribute("aria-describedby", "definition");
    const { left, width } = definition.getBoundingClientRect();
    definition.style.marginLeft = `${Math.min(0, document.documentElement.clientWidth - 12 - left - width)}px`;
  }
  function undefine() {
    clearTimeout(closing);
    closing = undefined;
    defined?.removeAttribute("aria-describedby");
    defined = null;
    definition.style.marginLeft = "";
    definition.remove();
  }
  const termOf = (event) => event.target.closest?.("[data-term]");
  const undefineSoon = (event) => {
    if (defined && !definition.contains(event.target) && !termOf(event)) closing ??= setTimeout(undefine, 250);
    else if (defined) { clearTimeout(closing); closing = undefined; }
  };
  for (const kind of ["mouseover", "focusin"]) {
    document.addEventListener(kind, (event) => {
      undefineSoon(event);
      define(termOf(event));
    });
  }
  document.addEventListener("click", (event) => { if (termOf(event)) define(termOf(event)); else if (!definition.contains(event.target)) undefine(); });

  // The explorer has exchanged parts of the page.
  document.addEventListener("parts", () => {
    watchTiles();
    makeAllSortable();
    if (!grid) return;
    entries = read();
    count(Number(grid.dataset.total), Number(grid.dataset.all));
    land();
  });

  // The snapshots of a training: the slider, or a column of the chart, chooses the one that is shown.
  for (const course of document.querySelectorAll(".course")) {
    const snapshots = [...course.querySelectorAll(".snapshot")];
    const links = [...course.querySelectorAll(".steps-chart a")];
    const slider = course.querySelector("input");
    const show = (index) => {
      slider.value = index;
      course.querySelector("output").textContent = snapshots[index].dataset.step;
      slider.setAttribute("aria-valuetext", `${snapshots[index].dataset.step} steps`);
      snapshots.forEach((each, other) => { each.hidden = other !== index; });
      links.forEach((each, other) => { if (other === index) each.setAttribute("aria-current", "step"); else each.removeAttribute("aria-current"); });
    };
    const named = () => snapshots.findIndex((each) => `#${each.id}` === location.hash);
    course.querySelector(".course-slider").hidden = false;
    slider.addEventListener("input", () => {
      show(Number(slider.value));
      history.replaceState(history.state, "", `#${snapshots[slider.value].id}`);
    });
    links.forEach((link, index) => link.addEventListener("click", (event) => {
      event.preventDefault();
      show(index);
      history.replaceState(history.state, "", link.hash);
    }));
    addEventListener("hashchange", () => { if (named() >= 0) show(named()); });
    show(named() >= 0 ? named() : snapshots.length - 1);
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
      if (link.matches("[data-keep]")) link.hash = hashFor(link);
      link.click();
    }
  };

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") undefine();
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open || typing()) return;
    if (event.key === "Enter" && termOf(event)) define(termOf(event));
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
