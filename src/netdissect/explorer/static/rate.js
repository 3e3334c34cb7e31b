// The rating page: one unit, one phrase, yes or no; never an IoU.
import { $, $$, requestJson, el, saveState, latest, layerOptions, number, options, post, query, loadState, tile } from "./lib.js";

const state = loadState({ run: "", layer: "", rater: "" });
const runs = await requestJson("/api/runs");
const form = $("form.controls");
let session = null;
let busy = false;
options(form.run, runs.map((run) => [run.id, run.name]), state.run);
form.rater.value = state.rater;

function layers() {
  const run = runs.find((each) => each.id === form.run.value);
  layerOptions(form.layer, run.layers, state.layer);
}
layers();
form.run.addEventListener("change", () => { state.layer = ""; layers(); });

const summary = latest(async (current) => {
  const result = await requestJson("/api/rating/summary");
  if (!current()) return;
  $(".export").hidden = result.raters.length === 0;
  $(".raters").replaceChildren(...(result.raters.length === 0 ? [el("tbody", {}, el("tr", {}, el("td", { className: "faint" }, "No ratings yet.")))] : [
    el("thead", {}, el("tr", {}, ["rater", "run", "layer", "yes", "no", "skipped", "controls rejected"].map((text, index) =>
      el("th", { scope: "col", className: index > 2 ? "n" : "" }, text)))),
    el("tbody", {}, result.raters.map((each) => el("tr", {}, el("th", { scope: "row" }, each.rater), el("td", {}, each.run), el("td", {}, el("code", {}, each.layer)),
      ["yes", "no", "skipped"].map((name) => el("td", { className: "n" }, number(each[name]))),
      el("td", { className: "n" }, `${number(each.controls_rejected)} of ${number(each.controls)}`)))),
  ]));
});

function show(result) {
  session = result;
  const { next } = result;
  $(".begin").hidden = true;
  $(".rating").hidden = false;
  const bar = $(".rating progress");
  bar.max = Math.max(result.total, 1);
  bar.value = result.done;
  $(".rating output").textContent = `${number(result.done)} of ${number(result.total)}`;
  $(".phrase").textContent = next ? next.phrase : "All items are rated. Thank you.";
  $(".question").hidden = !next;
  $(".gallery").replaceChildren(...(next ? next.images.map((image, at) => el("li", {}, tile(image, `Image ${at + 1}`))) : []));
  for (const button of $$("[data-rating]")) button.disabled = !next;
  $(".undo").disabled = !result.can_undo;
}

const step = latest(async (current, job) => {
  if (busy) return;
  busy = true;
  try {
    const result = await job();
    if (current()) show(result);
  } finally {
    busy = false;
  }
});
const who = () => ({ run: session.run, layer: session.layer, rater: session.rater });
const rate = (rating) => session?.next && step(() => post("/api/rating/answers", { ...who(), item: session.next.item, rating }));
const undo = () => session?.can_undo && step(() => post("/api/rating/undo", who()));

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const params = { run: form.run.value, layer: form.layer.value, rater: form.rater.value.trim() };
  saveState(params);
  await step(() => requestJson(`/api/rating/session${query(params)}`));
  if (session) $(".phrase").focus();
});
for (const button of $$("[data-rating]")) button.addEventListener("click", () => rate(button.dataset.rating));
$(".undo").addEventListener("click", undo);
$(".end").addEventListener("click", () => {
  session = null;
  $(".rating").hidden = true;
  $(".begin").hidden = false;
  summary();
});
document.addEventListener("keydown", (event) => {
  if (!session || event.ctrlKey || event.metaKey || event.altKey || event.repeat || /^(INPUT|SELECT)$/.test(document.activeElement.tagName)) return;
  if (event.key === "u") undo();
  else if (event.key in { y: 1, n: 1, s: 1 }) rate({ y: "yes", n: "no", s: "skip" }[event.key]);
});

summary();
