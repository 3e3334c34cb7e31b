// Concepts of all runs, and the units of one concept.
import { $, requestJson, chip, colorOf, counted, el, saveState, debounce, latest, number, percent, query, loadState, toggles, unitAddress } from "./lib.js";

const state = loadState({ q: "", category: "", name: "" });
const runs = await requestJson("/api/runs");
const colors = Object.assign({}, ...runs.map((run) => run.colors));
const title = Object.fromEntries(runs.map((run) => [run.id, run.name]));
const chosen = new Set(state.category && !state.name ? [state.category] : []);
const form = $(".controls");
form.q.value = state.q;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", debounce(() => { state.q = form.q.value.trim(); list(); }));
toggles($(".toggles"), colors, chosen, () => {
  // One category at a time.
  const last = [...chosen].at(-1);
  for (const other of [...chosen]) if (other !== last) chosen.delete(other);
  for (const each of document.querySelectorAll(".toggle")) each.setAttribute("aria-pressed", String(chosen.has(each.dataset.category)));
  state.category = last ?? "";
  list();
});

const list = latest(async (current) => {
  saveState(state);
  const page = await requestJson(`/api/concepts${query({ q: state.q, category: [...chosen][0], limit: 200 })}`);
  if (!current()) return;
  $(".shown-count").textContent = number(page.total);
  $(".lead").textContent = `${counted(page.total, "concept")} in ${counted(runs.length, "run")}.`;
  $(".none").hidden = page.total > 0;
  $(".list").hidden = page.total === 0;
  $(".list").replaceChildren(
    el("thead", {}, el("tr", {}, ["concept", "category", "detectors", "best IoU"].map((text, index) => el("th", { scope: "col", className: index > 1 ? "n" : "" }, text)))),
    el("tbody", {}, page.concepts.map((each) => {
      const link = el("a", { href: `/concepts${query({ name: each.concept, category: each.category })}` }, each.concept);
      link.addEventListener("click", (event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        state.name = each.concept;
        saveState(state);
        show(each.concept, each.category);
      });
      return el("tr", {}, el("th", { scope: "row" }, link), el("td", {}, chip(colors, each.category)),
        el("td", { className: "n" }, number(each.detectors)), el("td", { className: "n" }, each.best_iou_text));
    })));
});

const show = latest(async (current, name, category) => {
  const result = await requestJson(`/api/concept${query({ name, category })}`);
  if (!current()) return;
  const panel = $(".one");
  panel.hidden = false;
  panel.style.setProperty("--c", colorOf(colors, result.category));
  $("h2", panel).textContent = result.concept;
  $(".small", panel).replaceChildren(chip(colors, result.category), ...result.runs.map((each) =>
    ` ${title[each.run]}: ${counted(each.images, "image")}, ${percent(each.pixel_share)} of the annotated pixels. `));
  $(".units-of").replaceChildren(
    el("thead", {}, el("tr", {}, ["run", "layer", "unit", "IoU", "label"].map((text, index) => el("th", { scope: "col", className: index === 2 || index === 3 ? "n" : "" }, text)))),
    el("tbody", {}, result.units.map((each) => el("tr", {}, el("td", {}, title[each.run]), el("td", {}, el("code", {}, each.layer_name)),
      el("th", { scope: "row", className: "n" }, el("a", { href: unitAddress(each.run, each.layer, each.unit) }, String(each.unit))),
      el("td", { className: "n" }, each.detector ? el("b", {}, each.iou_text) : each.iou_text),
      el("td", {}, each.label === result.concept ? "its label" : (each.label ?? "none"))))));
});

list();
if (state.name) show(state.name, state.category);
