// The copy menu of each card, chart, gallery and table: its link, an image, and the values that the page holds.
// A button is made when its item is near the screen, and the menu when it is first opened.
"use strict";
(() => {
  const ITEMS = ".unit, .scroll:has(thead), .all-units, figure.chart, figure.sketch, .steps-chart, .gallery, .wall, .bands, .similar";
  const text = (node) => (node?.innerText ?? "").replace(/\s+/g, " ").trim();
  const valueOf = (words) => /^-?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?$/.test(words) ? Number(words.replaceAll(",", "")) : words;

  // Values: rows of one object each.
  const runnersUp = (card) => Object.fromEntries([...card.querySelectorAll(".runners-up > span")].flatMap((each, at) =>
    [[`other_${at + 1}`, each.firstChild.textContent.trim()], [`other_${at + 1}_iou`, valueOf(text(each.querySelector("small")))]]));
  function cardRow(card) {
    const { unit, label, category, iou } = card.dataset;
    const state = ["detector", "below", "dead"].find((each) => card.classList.contains(each));
    return { unit: Number(unit), label, category, iou: Number(iou), state, ...runnersUp(card) };
  }
  // A cell of the counts holds detectors and unique detectors, their intervals and nulls.
  const cells = (cell, name) => "values" in cell.dataset
    ? Object.entries(JSON.parse(cell.dataset.values)).map(([part, value]) => [`${name} ${part}`, value])
    : [[name, "value" in cell.dataset ? Number(cell.dataset.value) : valueOf(text(cell))]];
  function tableRows(table) {
    const heads = [...table.tHead?.rows[0]?.cells ?? []].map((cell) => cell.dataset.name ?? (text(cell) || "name"));
    const names = heads.map((name, at) => heads.indexOf(name) < at ? `${name} ${at + 1}` : name);
    let run = {};
    return [...table.tBodies].flatMap((body) => [...body.rows]).flatMap((row) => {
      if (row.cells.length === 1) {
        run = { run: row.cells[0].firstChild.textContent.trim() };
        return [];
      }
      return { ...run, ...Object.fromEntries([...row.cells].flatMap((cell, at) => cells(cell, names[at] ?? `column ${at + 1}`))) };
    });
  }
  const allUnits = ({ unit, label, labels, categories, iou, state }) => unit.map((each, at) =>
    ({ unit: each, label: labels[label[at]] ?? "", category: categories[label[at]] ?? "", iou: valueOf(iou[at]), state: state[at] }));
  const tileRow = (tile) => {
    const entry = tile.closest("li") ?? tile;
    return { percentile: text(tile.closest(".band")?.querySelector("b")), image: tile.querySelector("img")?.alt, name: text(entry.querySelector("b")), note: valueOf(text(entry.querySelector(":scope > small:last-child"))) };
  };
  // A chart holds the columns of its values.
  function chartRows(chart) {
    const columns = Object.entries(JSON.parse(chart?.dataset.values ?? "{}"));
    return (columns[0]?.[1] ?? []).map((_, at) => Object.fromEntries(columns.map(([name, values]) => [name, values[at]])));
  }
  function rowsOf(item) {
    if (item.matches(".unit")) return [cardRow(item)];
    if (item.matches(".all-units")) return allUnits(globalThis.unitRows);
    if (item.matches(".scroll")) return tableRows(item.querySelector("table"));
    if (item.matches("figure, .steps-chart")) return chartRows(item.dataset.values ? item : item.querySelector("[data-values]"));
    const rows = [...item.querySelectorAll(".tile")].map(tileRow);
    const empty = Object.keys(rows[0] ?? {}).filter((key) => rows.every((row) => (row[key] ?? "") === ""));
    for (const row of rows) for (const key of empty) delete row[key];
    return rows;
  }
  // A text that a spreadsheet would take for a formula gets an apostrophe, as in netdissect.csv_cells.
  const cell = (value) => {
    const escaped = typeof value === "string" ? value.replace(/^('*[=+\-@\t\r])/, "'$1") : `${value ?? ""}`;
    return /[",\r\n]/.test(escaped) ? `"${escaped.replaceAll('"', '""')}"` : escaped;
  };
  function csv(rows) {
    const names = [...new Set(rows.flatMap(Object.keys))];
    return [names, ...rows.map((row) => names.map((name) => row[name]))].map((row) => `${row.map(cell).join(",")}\n`).join("");
  }

  // Image: backgrounds, lines, words, images and drawings are painted on a canvas where the page has them.
  const SCALE = 2;
  const PAINT = ["fill", "fill-opacity", "fill-rule", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linejoin", "vector-effect", "opacity", "display",
    "visibility", "mix-blend-mode", "isolation", "font-family", "font-size", "font-weight", "font-style", "text-anchor", "dominant-baseline"];
  function drawing(svg, { width, height }) {
    const copy = svg.cloneNode(true);
    const copies = [...copy.querySelectorAll("*")];
    [...svg.querySelectorAll("*")].forEach((node, at) => {
      if (node.closest("defs, clipPath, title")) return;
      const style = getComputedStyle(node);
      copies[at].setAttribute("style", PAINT.map((name) => `${name}:${style.getPropertyValue(name)}`).join(";"));
      if (style.vectorEffect === "non-scaling-stroke") copies[at].style.strokeWidth = `${SCALE * parseFloat(style.strokeWidth)}px`;
    });
    const { color } = getComputedStyle(svg);
    for (const [name, value] of Object.entries({ xmlns: "http://www.w3.org/2000/svg", width: width * SCALE, height: height * SCALE, style: `color:${color};isolation:isolate` })) copy.setAttribute(name, value);
    return loaded(`data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`);
  }
  async function loaded(source) {
    const image = new Image();
    image.src = source;
    await image.decode();
    return image;
  }
  function words(context, node, box) {
    const style = getComputedStyle(node.parentElement);
    context.font = `${style.fontStyle} ${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    context.fillStyle = style.color;
    context.textBaseline = "middle";
    for (const { 0: word, index } of node.textContent.matchAll(/\S+/g)) {
      const range = document.createRange();
      range.setStart(node, index);
      range.setEnd(node, index + word.length);
      const { left, top, height } = box(range);
      context.fillText(word, left, top + height / 2);
    }
  }
  function boxes(context, node, { left, top, width, height }) {
    const style = getComputedStyle(node);
    context.fillStyle = style.backgroundColor;
    context.fillRect(left, top, width, height);
    const lines = { Top: [left, top, width, 0], Left: [left, top, 0, height], Bottom: [left, top + height, width, 0] };
    for (const [side, [x, y, along, down]] of Object.entries(lines)) {
      const line = parseFloat(style[`border${side}Width`]);
      context.fillStyle = style[`border${side}Color`];
      if (line) context.fillRect(x, side === "Bottom" ? y - line : y, along || line, down || line);
    }
  }
  async function paint(context, node, box) {
    if (node.nodeType === Node.TEXT_NODE) return words(context, node, box);
    if (node.nodeType !== Node.ELEMENT_NODE || node.matches(".copy, .unseen, .definition") || !node.getClientRects().length) return;
    const place = box(node);
    const { left, top, width, height } = place;
    const { mixBlendMode, opacity } = getComputedStyle(node);
    context.save();
    context.globalAlpha *= opacity;
    if (node.matches("svg")) {
      const image = await drawing(node, place);
      const sheet = new OffscreenCanvas(Math.ceil(width * SCALE), Math.ceil(height * SCALE));
      const layer = sheet.getContext("2d");
      layer.fillStyle = getComputedStyle(node).backgroundColor;
      layer.fillRect(0, 0, sheet.width, sheet.height);
      layer.drawImage(image, 0, 0, sheet.width, sheet.height);
      context.globalCompositeOperation = mixBlendMode === "normal" ? "source-over" : mixBlendMode;
      context.drawImage(sheet, Math.round(left * SCALE) / SCALE, Math.round(top * SCALE) / SCALE, sheet.width / SCALE, sheet.height / SCALE);
    } else {
      boxes(context, node, place);
      if (node.matches("img")) context.drawImage(await loaded(node.currentSrc), left, top, width, height);
      else for (const child of node.childNodes) await paint(context, child, box);
    }
    context.restore();
  }
  async function png(item) {
    const whole = item.matches(".scroll") ? item.querySelector("table") : item;
    const start = whole.getBoundingClientRect();
    const canvas = document.createElement("canvas");
    canvas.width = Math.ceil(Math.max(start.width, whole.scrollWidth) * SCALE);
    canvas.height = Math.ceil(start.height * SCALE);
    const context = canvas.getContext("2d");
    context.scale(SCALE, SCALE);
    context.fillStyle = getComputedStyle(document.body).backgroundColor;
    context.fillRect(0, 0, canvas.width, canvas.height);
    await paint(context, whole, (node) => {
      const { left, top, width, height } = node.getClientRects()[0];  // of an inline element its first line
      return { left: left - whole.getBoundingClientRect().left + whole.scrollLeft, top: top - whole.getBoundingClientRect().top, width, height };
    });
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }
  // A browser lets no page on disk read an image beside it.
  const readable = (item) => location.protocol !== "file:" || ![...item.querySelectorAll("img")].some((image) => !image.src.startsWith("data:"));

  function linkOf(item) {
    const url = new URL(item.querySelector(":scope > h3 a")?.href ?? location.href);
    const named = item.closest("[id]:not(main)");
    if (!item.matches(".unit")) url.hash = named ? named.id : "";
    return url.href;
  }
  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
  const nameOf = (item) => [document.title, item.dataset.unit ?? item.closest("[id]:not(main)")?.id ?? ""].join(" ").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").toLowerCase();

  // Menu.
  let menu = null;
  let chosen = null;
  let opener = null;
  const actions = {
    async link() {
      const url = linkOf(chosen);
      try {
        await navigator.clipboard.writeText(url);
        return say("Link copied.");
      } catch {
        const field = Object.assign(document.createElement("input"), { readOnly: true, value: url, ariaLabel: "Link, to be copied by hand" });
        say(field);
        field.select();
        field.focus();
      }
    },
    async png() { save(await png(chosen), `${nameOf(chosen)}.png`); close(); },
    csv() { save(new Blob([csv(rowsOf(chosen))], { type: "text/csv" }), `${nameOf(chosen)}.csv`); close(); },
    json() { save(new Blob([`${JSON.stringify(rowsOf(chosen), null, 1)}\n`], { type: "application/json" }), `${nameOf(chosen)}.json`); close(); },
  };
  const say = (...content) => menu.querySelector("p").replaceChildren(...content);
  const choices = () => [...menu.querySelectorAll("[role=menuitem]:not([hidden])")];
  function close() {
    menu.hidePopover();
    opener.focus();
  }
  function makeMenu() {
    menu = document.createElement("div");
    menu.className = "copy-menu";
    menu.popover = "auto";
    const list = Object.assign(document.createElement("div"), { role: "menu", ariaLabel: "Copy or save" });
    for (const [name, title] of [["link", "Copy link"], ["png", "Save PNG"], ["csv", "Save CSV"], ["json", "Save JSON"]]) {
      const choice = Object.assign(document.createElement("button"), { type: "button", role: "menuitem", textContent: title, tabIndex: -1 });
      choice.dataset.action = name;
      list.append(choice);
    }
    menu.append(list, Object.assign(document.createElement("p"), { role: "status" }));
    document.querySelector("main").append(menu);
    menu.addEventListener("click", (event) => actions[event.target.dataset.action]?.());
    menu.addEventListener("toggle", ({ newState }) => opener.setAttribute("aria-expanded", newState === "open"));
    menu.addEventListener("keydown", (event) => {
      event.stopPropagation();
      const all = choices(), at = all.indexOf(document.activeElement);
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
      if (event.key === "Tab") close();
      if (event.key === "Escape") { event.preventDefault(); close(); }
      if (to === undefined || at < 0) return;
      event.preventDefault();
      all.at(to % all.length).focus();
    });
  }
  function open(button) {
    if (!menu) makeMenu();
    opener = button;
    chosen = button.item;
    const rows = rowsOf(chosen).length > 0;
    for (const choice of menu.querySelectorAll("button")) {
      const { action } = choice.dataset;
      choice.hidden = (action === "png" && (!readable(chosen) || chosen.matches(".all-units"))) || (/csv|json/.test(action) && !rows);
    }
    say(readable(chosen) ? "" : "No PNG: a browser does not let a page on disk read its images. The explorer (netdissect serve) saves it.");
    menu.showPopover();
    const { right, bottom, top } = button.getBoundingClientRect();
    menu.style.left = `${Math.max(8, Math.min(right, document.documentElement.clientWidth - 8) - menu.offsetWidth)}px`;
    menu.style.top = `${bottom + menu.offsetHeight < innerHeight ? bottom + 2 : Math.max(8, top - menu.offsetHeight - 2)}px`;
    choices()[0].focus({ preventScroll: true });
  }
  addEventListener("scroll", () => { if (menu?.matches(":popover-open")) menu.hidePopover(); }, { passive: true });

  function addButton(item) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "Copy", ariaHasPopup: "menu", ariaExpanded: "false", item });
    const of = item.matches(".unit") ? `unit ${item.dataset.unit}` : item.ariaLabel ?? item.closest("section")?.querySelector("h2")?.innerText ?? document.title;
    button.setAttribute("aria-label", `Copy or save: ${of}`);
    button.addEventListener("click", () => open(button));
    if (item.matches("ol")) item.after(button);
    else if (item.matches(".all-units, .bands")) item.after(button);
    else item.append(button);
  }
  const near = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      addButton(target);
    }
  }, { rootMargin: "400px" });
  const watched = new WeakSet();
  function watch() {
    for (const item of document.querySelectorAll(ITEMS)) {
      if (watched.has(item)) continue;
      watched.add(item);
      near.observe(item);
    }
  }
  new MutationObserver(watch).observe(document.querySelector("main"), { childList: true, subtree: true });
  watch();
})();
