// The controls of the report's pages in the explorer: they ask for the same page at other values, and exchange its parts.
import { $, $$, LimitSlider, QuantileSlider, debounce, latest } from "./lib.js";

const values = new URLSearchParams(location.hash.slice(1));
const form = $("#controls");

/** Ask for this page at other values, and exchange the parts; with an offset, add the units. */
const show = latest(async (current, asked) => {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(asked))
    for (const each of [value].flat()) if (each !== "" && each !== undefined) query.append(name, each);
  const answer = await fetch(`${location.pathname}?${query}`, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!current()) return;
  if (!answer.ok) throw new Error($(".lead", page)?.textContent ?? `The server answered ${answer.status}.`);
  for (const part of $$("[data-part]")) {
    const other = $(`[data-part="${part.dataset.part}"]`, page);
    if (part.dataset.part !== "units") part.replaceWith(other);
    else if (asked.offset) part.append(...other.children);
    else {
      part.replaceChildren(...other.children);
      Object.assign(part.dataset, other.dataset);
    }
  }
  const link = $("a.json");
  if (link) link.search = query;
  document.dispatchEvent(new Event("parts"));
});

document.addEventListener("units", debounce(async (event) => {
  const { show: state, ...asked } = event.detail;
  const more = $(".more button");
  more.disabled = true;
  await show({ ...asked, state: state === "all" ? "" : state, charts: false });
  more.disabled = false;
}, 60));

function set(name, value) {
  if (form) {
    form[name].value = value;
    form.dispatchEvent(new Event("input"));
  } else {
    if (value === "") values.delete(name); else values.set(name, value);
    history.replaceState(history.state, "", values.size ? `#${values}` : location.pathname);
    show({ [name]: value });
  }
}

const root = $("[data-slider=quantile]");
if (root) {
  const quantiles = root.dataset.quantiles.split(" ").map(Number);
  const slider = new QuantileSlider(debounce((value) => set("quantile", value === quantiles[0] ? "" : value)));
  slider.set(quantiles, [Number(root.dataset.low), Number(root.dataset.high)], values.get("quantile"));
  if (!form && values.get("quantile")) show({ quantile: values.get("quantile") });
}
const limitRoot = $("[data-slider=limit]");
if (limitRoot) {
  const own = Number(limitRoot.dataset.own);
  const slider = new LimitSlider(debounce((value) => set("min_iou", Number(value) === own ? "" : value)));
  slider.set(values.get("min_iou") || own);
}
