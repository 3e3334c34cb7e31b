// The units of one layer. The quantile moves the masks; the IoU moves detectors and counts.
import {
  $, IouSlider, QuantileSlider, requestJson, card, countsTable, el, saveState, debounce, latest, limitNumber, maskChoice, number,
  percent, query, loadState, tile, toggles, unitAddress,
} from "./lib.js";

const PAGE = 24;
const { run: id, layer } = $(".opening").dataset;
const base = `/api/runs/${id}/layers/${layer}`;
const state = loadState({ quantile: "", min_iou: "", q: "", sort: "iou", state: "", category: "" });
const chosen = new Set(state.category.split(",").filter(Boolean));
const form = $(".controls");
const grid = $(".units");
const more = $(".more button");
const run = await requestJson(`/api/runs/${id}`);
const own = run.layers[layer].min_iou;
let shown = 0;

const quantile = new QuantileSlider(debounce((value) => { state.quantile = value; refresh(); }));
const limit = new IouSlider(debounce((value) => { state.min_iou = value; refresh(); }));
quantile.set(run, layer, state.quantile);
limit.set(state.min_iou || own);
for (const name of ["q", "sort", "state"]) form[name].value = state[name];
toggles($(".toggles"), run.colors, chosen, () => refresh());
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", debounce(() => {
  for (const name of ["q", "sort", "state"]) state[name] = form[name].value.trim();
  refresh();
}));
more.addEventListener("click", () => load(shown));
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || /^(INPUT|SELECT)$/.test(document.activeElement.tagName)) return;
  event.preventDefault();
  form.q.focus();
});
maskChoice();

function unitsQuery(offset) {
  return query({
    quantile: quantile.value, min_iou: limit.value, q: state.q, sort: state.sort, state: state.state,
    category: [...chosen], offset, limit: Math.max(PAGE, offset ? PAGE : Math.min(shown, 96)),
  });
}

const load = latest(async (current, offset) => {
  const page = await requestJson(`${base}/units${unitsQuery(offset)}`);
  if (!current()) return;
  const cards = page.units.map((unit) => card(unit, {
    colors: run.colors,
    href: unitAddress(id, layer, unit.unit, quantile.value === run.quantiles[0] ? {} : { quantile: quantile.value }),
    value: unit.state === "dead" ? null : unit.iou_text,
    limit: limit.value,
    end: page.bar_end,
    body: unit.state === "dead"
      ? [el("p", { className: "why" }, "Never active: no activation exceeds its threshold.")]
      : [el("div", { className: "tiles", role: "img", aria: { label: `Images on which unit ${unit.unit} is most active` } },
          unit.images.map((image) => tile(image)))],
  }));
  if (offset) grid.append(...cards); else grid.replaceChildren(...cards);
  shown = offset + cards.length;
  more.hidden = shown >= page.total;
  $(".none").hidden = page.total > 0;
  $(".shown-count").textContent = `${number(shown)} of ${number(page.total)}`;
  $(".bar-end").textContent = `Bars end at an IoU of ${page.bar_end.toFixed(2)}; the upright line is the limit.`;
  quantile.explain(page.masks);
});

const count = latest(async (current) => {
  const counts = await requestJson(`${base}/counts${query({ quantile: quantile.value, min_iou: limit.value })}`);
  if (!current()) return;
  const top = counts.counts.find((each) => each.rule === "top-label");
  $(".lead").replaceChildren(
    el("b", {}, number(top.detectors.total)), ` of ${number(counts.units)} units (${percent(top.detectors.total / Math.max(counts.units, 1))}) are detectors, of `,
    el("b", {}, number(top.unique_detectors.total)), ` unique concepts.`);
  countsTable($("table.live"), counts.counts.map((each) => each.rule),
    [...run.categories, "total"].map((name) => [name, counts.counts.map((each) => [each.detectors[name], each.unique_detectors[name]])]), run.colors);
  $("[data-slider=iou] .state").textContent = `Counted at ${percent(counts.quantile)}${limit.value === own ? ", at the run's own limit" : `; the run's own limit is ${limitNumber(own)}`}.`;
});

function refresh() {
  state.category = [...chosen].join(",");
  saveState({ ...state, sort: state.sort === "iou" ? "" : state.sort });
  load(0);
  count();
}

refresh();
