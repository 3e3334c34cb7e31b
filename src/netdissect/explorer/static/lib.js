// Shared by the explorer's own pages. Names from data become text nodes, never markup.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** Make an element: properties by name, `data`, `aria` and `vars` (CSS variables) as objects. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "data") Object.assign(node.dataset, value);
    else if (name === "aria") for (const [key, text] of Object.entries(value)) node.setAttribute(`aria-${key}`, text);
    else if (name === "vars") for (const [key, text] of Object.entries(value)) node.style.setProperty(`--${key}`, text);
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function query(values) {
  const made = new URLSearchParams();
  for (const [name, value] of Object.entries(values))
    for (const each of Array.isArray(value) ? value : [value])
      if (each !== "" && each !== null && each !== undefined) made.append(name, each);
  return made.size ? `?${made}` : "";
}

export class RequestError extends Error {}

/** Request JSON; a failure becomes a RequestError with the server's message. */
export async function requestJson(address, options = {}) {
  const answer = await fetch(address, { headers: { Accept: "application/json" }, ...options });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new RequestError(body.message ?? `The server answered ${answer.status}.`);
  return body;
}

/** Request a page, or parts of one, as a document; a failure becomes a RequestError with the server's message. */
export async function requestPage(address, options = {}) {
  const answer = await fetch(address, { ...options, headers: { Accept: "text/html", ...options.headers } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok) throw new RequestError($(".lead", page)?.textContent ?? `The server answered ${answer.status}.`);
  return page;
}

/** Replace the elements of these parts by those of another page. */
export function exchangeParts(page, names) {
  for (const name of names) {
    const other = $(`[data-part="${name}"]`, page);
    if (other) $(`[data-part="${name}"]`).replaceWith(other);
  }
  document.dispatchEvent(new Event("parts"));
}

export const post = (address, body) =>
  requestJson(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export function showError(problem) {
  const notice = $(".problem");
  notice.hidden = !problem;
  notice.textContent = problem ? (problem.message ?? String(problem)) : "";
}

/** Run a job, show what goes wrong; only the result of the last call counts. */
export function latest(job) {
  let turn = 0;
  return async (...values) => {
    const mine = ++turn;
    try {
      const result = await job(() => mine === turn, ...values);
      if (mine === turn) showError(null);
      return result;
    } catch (problem) {
      if (mine === turn) showError(problem);
      return undefined;
    }
  };
}

export function debounce(job, wait = 120) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => job(...values), wait);
  };
}

export const percent = (share) => {
  const value = 100 * share;
  return `${value === 0 ? 0 : value >= 10 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : Number(value.toPrecision(2))} %`;
};
export const number = (value) => value.toLocaleString("en");
export const counted = (value, nouns) => `${number(value)} ${value === 1 ? nouns.slice(0, -1) : nouns}`;

export const colorOf = (colors, category) => colors[category] ?? "#7a7a7a";
export const chip = (colors, category) => el("span", { className: "chip", vars: { c: colorOf(colors, category) } }, category);
export const unitAddress = (run, layer, unit) => run.layers[layer].url.replace("index.html", `u${unit}.html`);

/** The mask of a unit. */
export const maskOf = ({ size: [height, width], unit }) => svg("svg", { viewBox: `0 0 ${2 * width} ${2 * height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
  svg("path", { class: "u m", d: unit }));

/** An image with the mask of a unit drawn over it. */
export function tile(image, alt = "") {
  const drawn = maskOf(image);
  const shown = el("img", { src: image.url, alt, loading: "lazy", decoding: "async", width: 128, height: 128 });
  const made = el("span", { className: "tile" }, shown, drawn);
  return made;
}

/** The slider of quantiles: a logarithmic scale that snaps to the run's own quantiles. */
export class QuantileSlider {
  constructor(changed) {
    this.root = $("[data-slider=quantile]");
    this.input = $("input", this.root);
    this.output = $("output", this.root);
    this.note = $(".state", this.root);
    this.input.addEventListener("input", () => { this.show(); changed(this.value); });
  }

  set(quantiles, [low, high], value) {
    this.quantiles = quantiles;
    this.most = high;
    // Below a twentieth of the smallest quantile a few cells decide.
    this.least = Math.max(low, Math.min(...quantiles) / 20);
    const quantile = Number(value) || quantiles[0];
    this.input.value = this.positionOf(Math.min(Math.max(quantile, this.least), this.most));
    $("datalist", this.root).replaceChildren(...quantiles.map((each) => el("option", { value: this.positionOf(each) })));
    this.show();
  }

  positionOf(quantile) {
    const range = Math.log(this.most / this.least);
    return range > 0 ? Math.round((1000 * Math.log(quantile / this.least)) / range) : 1000;
  }

  get value() {
    const position = Number(this.input.value);
    const near = this.quantiles.find((each) => Math.abs(this.positionOf(each) - position) <= 12);
    if (near) return near;
    return Number((this.least * (this.most / this.least) ** (position / 1000)).toPrecision(3));
  }

  show() {
    this.output.textContent = percent(this.value);
    this.input.setAttribute("aria-valuetext", percent(this.value));
  }
}

/** The slider of the minimum IoU of a detector. */
export class LimitSlider {
  constructor(changed) {
    this.root = $("[data-slider=limit]");
    this.input = $("input", this.root);
    this.output = $("output", this.root);
    this.input.addEventListener("input", () => { this.set(this.input.value); changed(this.value); });
  }

  // A value that is set is kept exactly, whatever the steps of the slider.
  set(value) { this.value = Number(value); this.input.value = value; this.show(); }
  show() { this.output.textContent = this.value.toFixed(3); }
}

export function loadState(defaults) {
  const given = new URLSearchParams(location.search);
  return Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, given.get(name) ?? value]));
}

export function saveState(state) {
  history.replaceState(null, "", location.pathname + query(state));
  const link = $("a.json");
  if (link) link.search = query(state);
}

export function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => el("option", { value }, text)));
  if (entries.some(([value]) => String(value) === String(chosen))) select.value = chosen;
}

/** Offer the layers of a run: the last one of the network is chosen at first, and other bases of a layer are marked. */
export function layerOptions(select, layers, chosen) {
  const own = layers.filter((each) => !each.basis_of);
  options(select, layers.map((each) => [each.index, each.basis_of ? `${each.name} (virtual: basis of ${each.basis_of})` : each.name]),
    chosen || (own.at(-1) ?? layers.at(-1))?.index);
}

export function countsTable(table, head, rows, colors) {
  table.replaceChildren(
    el("caption", {}, "Detectors and unique detectors (different concepts)"),
    el("thead", {}, el("tr", {}, el("td"), head.map((text) => el("th", { scope: "col", className: "n" }, text)))),
    el("tbody", {}, rows.map(([category, cells]) =>
      el("tr", { className: category === "total" ? "total" : "" },
        el("th", { scope: "row" }, category === "total" ? "total" : chip(colors, category)),
        cells.map(([detectors, unique]) => el("td", { className: "n", data: { values: JSON.stringify({ detectors, unique_detectors: unique }) } },
          `${number(detectors)} / `, el("b", {}, number(unique))))))),
  );
}
