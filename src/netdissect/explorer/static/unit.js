// One unit: its images under a threshold that moves, and all its concepts.
import { $, QuantileSlider, ask, chip, colorOf, el, iou, keep, later, latest, maskChoice, nameOf, number, percent, query, stateOf, tile } from "./lib.js";

const { run: id, layer, unit } = $(".opening").dataset;
const state = stateOf({ quantile: "" });
const run = await ask(`/api/runs/${id}`);
const slider = new QuantileSlider(later((value) => { state.quantile = value; show(); }));
slider.set(run, layer, state.quantile);
maskChoice();
document.addEventListener("keydown", (event) => {
  if (/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) return;
  const link = { ArrowLeft: "[rel=prev]", ArrowRight: "[rel=next]" }[event.key];
  if (link) $(link)?.click();
});

const show = latest(async (current) => {
  keep(state);
  const found = await ask(`/api/runs/${id}/layers/${layer}/units/${unit}${query({ quantile: slider.value })}`);
  if (!current()) return;
  const { brief, threshold } = found;
  const concept = brief.label && brief.state !== "dead" ? el("a", { href: `/concepts${query({ name: brief.label, category: brief.category })}` }, brief.label) : nameOf(brief);
  $("h1.name").replaceChildren(concept);
  $(".lead").replaceChildren("IoU ", el("b", {}, brief.iou.toFixed(4)), " ", brief.category ? chip(run.colors, brief.category) : "",
    brief.state === "below" ? el("span", { className: "mark" }, "no detector") : "");
  $(".sure").textContent = certainty(found.sure);
  slider.explain(found.masks);
  const digits = (value) => value.toPrecision(4);
  slider.note.append(` Threshold ${digits(threshold.value)}` + (threshold.exact ? ", exact" : `, between ${digits(threshold.low)} and ${digits(threshold.high)}`)
    + `; largest activation ${digits(found.max_activation)}.`);
  $(".gallery").replaceChildren(...brief.images.map((image) => el("li", {},
    el("a", { href: `/image${query({ run: id, layer, row: image.image_index })}` }, tile(image, image.image)), el("small", {}, image.max_activation.toPrecision(4)))));
  $(".matches").replaceChildren(
    el("thead", {}, el("tr", {}, ["concept", "IoU", "attainable", "both", "mask", "concept"].map((text, place) =>
      el("th", { scope: "col", className: place ? "n" : "" }, text)))),
    el("tbody", {}, found.scores.slice(0, 40).map((score) => el("tr", {},
      el("th", { scope: "row" }, el("span", { className: "dot", title: score.category, vars: { c: colorOf(run.colors, score.category) } }),
        el("a", { href: `/concepts${query({ name: score.concept, category: score.category })}` }, score.concept)),
      el("td", { className: "n" }, score.iou.toFixed(4)), el("td", { className: "n" }, iou(score.max_attainable_iou)),
      ["intersection", "mask_pixels", "concept_pixels"].map((name) => el("td", { className: "n" }, number(score[name])))))));
  besideIou(found);
});

// In the words of the report's page of a unit; of what was not measured nothing is said.
function certainty(sure) {
  const said = [], brief = (value) => String(Number(value.toPrecision(2)));
  if ("iou_ci_low" in sure) said.push(`The IoU lies between ${sure.iou_ci_low.toFixed(3)} and ${sure.iou_ci_high.toFixed(3)} (95 % interval).`);
  if ("stability" in sure) said.push(`The label is kept in ${percent(sure.stability)} of replicates.`);
  if ("heldout_iou" in sure) said.push(`On images that did not choose the label its IoU is ${sure.heldout_iou.toFixed(3)}.`);
  if ("p_value" in sure) {
    const corrected = [["q_value_bh", "Benjamini-Hochberg"], ["q_value_by", "Benjamini-Yekutieli"]].filter(([key]) => key in sure);
    said.push(`Chance reaches this IoU with p = ${brief(sure.p_value)}`
      + corrected.map(([key, name], place) => `${place ? ", " : "; corrected for all units, q = "}${brief(sure[key])} (${name})`).join("") + ".");
  }
  return said.join(" ");
}

function besideIou({ beside, scores }) {
  const columns = Object.keys(beside), rows = scores.filter((score) => Object.keys(score.beside).length);
  $(".more-scores").hidden = !rows.length;
  $(".more-scores table").replaceChildren(
    el("thead", {}, el("tr", {}, ["concept", ...Object.values(beside)].map((text, place) => el("th", { scope: "col", className: place ? "n" : "" }, text)))),
    el("tbody", {}, rows.map((score) => el("tr", {},
      el("th", { scope: "row" }, el("span", { className: "dot", title: score.category, vars: { c: colorOf(run.colors, score.category) } }), score.concept),
      columns.map((name) => el("td", { className: "n" }, name in score.beside ? score.beside[name].toFixed(3) : ""))))));
}

show();
