// The controls of the report's pages in the explorer: they ask for the same page at other values, and exchange its parts.
import { $, $$, LimitSlider, QuantileSlider, debounce, latest, requestPage } from "./lib.js";

const values = new URLSearchParams(location.hash.slice(1));
const form = $("#controls");

/** Ask for this page at other values. */
async function ask(asked) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(asked))
    for (const each of [value].flat()) if (each !== "" && each !== undefined) query.append(name, each);
  return { page: await requestPage(`${location.pathname}?${query}`), query };
}

// The units of a layer lie in blocks of one request each. Only blocks near the screen hold their cards: the others are
// empty elements of about the same height, so that a layer of 65,536 units scrolls like one of 60.
const grid = $(".units[data-part=units]");
const size = Number(grid?.dataset.page);
let asked = {};
const near = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    target.near = isIntersecting;
    if (isIntersecting) fill(target);
    else empty(target);
  }
}, { rootMargin: "1500px" });

async function fill(block) {
  if (block.childElementCount || block.asked === asked) return;
  block.asked = asked;
  const values = asked;
  const { page } = await ask({ ...values, offset: block.dataset.offset, limit: size });
  if (values !== asked) return;
  delete block.asked;
  if (block.near) put(block, $$("[data-part=units] > *", page));
}

function put(block, cards) {
  block.replaceChildren(...cards);
  block.style.height = "";
  grid.style.setProperty("--block", `${block.offsetHeight}px`);
  document.dispatchEvent(new Event("parts"));
}

function empty(block) {
  if (!block.childElementCount || block.contains(document.activeElement)) return;
  block.style.height = `${block.offsetHeight}px`;
  block.replaceChildren();
}

/** Make the first block, or those of all units that match; the cards of one of them are known. */
function lay(cards, values, all) {
  near.disconnect();
  asked = values;
  const count = all ? Math.ceil(Number(grid.dataset.total) / size) : 1;
  const blocks = Array.from({ length: count }, (_, index) => {
    const block = document.createElement("div");
    block.className = "block";
    block.dataset.offset = index * size;
    return block;
  });
  grid.classList.add("blocks");
  grid.replaceChildren(...blocks);
  put(blocks[values.offset / size] ?? blocks[0], cards);
  for (const block of blocks) near.observe(block);
}
if (grid && !history.state && location.hash.length < 2) lay([...grid.children], { offset: 0 }, false);

// The charts of a layer are drawn when the reader comes near one of them.
const places = $$("[data-later]");
const later = new IntersectionObserver(latest(async (_current, seen) => {
  if (!seen.some((place) => place.isIntersecting)) return;
  later.disconnect();
  const { page } = await ask({ charts: true, limit: 1 });
  for (const place of places) {
    const drawn = page.getElementById(place.id);
    if (drawn) place.replaceWith(drawn); else place.remove();
  }
}), { rootMargin: "600px" });
for (const place of places) later.observe(place);

const show = latest(async (current, values, all = false) => {
  const { page, query } = await ask(values);
  if (!current()) return;
  for (const part of $$("[data-part]")) {
    const other = $(`[data-part="${part.dataset.part}"]`, page);
    if (part === grid) {
      Object.assign(grid.dataset, { ...other.dataset, page: size });
      lay([...other.children], values, all);
    } else part.replaceWith(other);
  }
  const link = $("a.json");
  if (link) link.search = query;
  if (!grid) document.dispatchEvent(new Event("parts"));
});

// Masks change where the reader is; other units are shown from the first one on.
let order = "";
document.addEventListener("units", debounce((event) => {
  const { show: state, offset, all, ...values } = event.detail;
  const wanted = JSON.stringify([values.q, values.sort, values.category, state]);
  const here = wanted === order && $$(".block", grid).find((block) => block.getBoundingClientRect().bottom > 0);
  order = wanted;
  const first = Number(all && here ? here.dataset.offset : offset);
  show({ ...values, state: state === "all" ? "" : state, offset: first, limit: size }, all);
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
