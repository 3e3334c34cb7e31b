// One unit: its top images with masks at a chosen quantile, and its concepts.
import { $, QuantileSlider, requestJson, chip, colorOf, el, iou, saveState, debounce, latest, maskChoice, labelText, number, percent, query, loadState, tile } from "./lib.js";

const { run: id, layer, unit } = $(".opening").dataset;
const state = loadState({ quantile: "" });
const run = await requestJson(`/api/runs/${id}`);
const slider = new QuantileSlider(debounce((value) => { state.quantile = value; show(); }));
slider.set(run, layer, state.quantile);
maskChoice();
document.addEventListener("keydown", (event) => {
  if (/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) return;
  const link = { ArrowLeft: "[rel=prev]", ArrowRight: "[rel=next]" }[event.key];
  if (link) $(link)?.click();
});

const show = latest(async (current) => {
  saveState(state);
  const result = await requestJson(`/api/runs/${id}/layers/${layer}/units/${unit}${query({ quantile: slider.value })}`);
  if (!current()) return;
  const { summary, threshold } = result;
  const concept = summary.label && summary.state !== "dead" ? el("a", { href: `/concepts${query({ name: summary.label, category: summary.category })}` }, summary.label) : labelText(summary);
  $("h1.name").replaceChildren(concept);
  $(".lead").replaceChildren("IoU ", el("b", {}, summary.iou_text), " ", summary.category ? chip(run.colors, summary.category) : "",
    summary.state === "below" ? el("span", { className: "mark" }, "not a detector") : "");
  $(".statistics").textContent = statisticsText(result.statistics);
  slider.explain(result.masks);
  const digits = (value) => value.toPrecision(4);
  slider.note.append(` Threshold ${digits(threshold.value)}` + (threshold.exact ? ", exact" : `, between ${digits(threshold.low)} and ${digits(threshold.high)}`)
    + `; largest activation ${digits(result.max_activation)}.`);
  $(".gallery").replaceChildren(...summary.images.map((image) => el("li", {},
    el("a", { href: `/image${query({ run: id, layer, image_index: image.image_index })}` }, tile(image, image.image)), el("small", {}, image.max_activation.toPrecision(4)))));
  $(".matches").replaceChildren(
    el("thead", {}, el("tr", {}, ["concept", "IoU", "attainable", "both", "mask", "concept"].map((text, index) =>
      el("th", { scope: "col", className: index ? "n" : "" }, text)))),
    el("tbody", {}, result.scores.slice(0, 40).map((score) => el("tr", {},
      el("th", { scope: "row" }, el("span", { className: "dot", title: score.category, vars: { c: colorOf(run.colors, score.category) } }),
        el("a", { href: `/concepts${query({ name: score.concept, category: score.category })}` }, score.concept)),
      el("td", { className: "n" }, score.iou_text), el("td", { className: "n" }, iou(score.max_attainable_iou)),
      ["intersection", "mask_pixels", "concept_pixels"].map((name) => el("td", { className: "n" }, number(score[name])))))));
  showMetrics(result);
});

// A statistic that was not measured is left out.
function statisticsText(statistics) {
  const sentences = [], digits = (value) => String(Number(value.toPrecision(2)));
  if ("iou_ci_low" in statistics) sentences.push(`95 % confidence interval of the IoU: ${statistics.iou_ci_low.toFixed(3)} to ${statistics.iou_ci_high.toFixed(3)}.`);
  if ("stability" in statistics) sentences.push(`The label is the same in ${percent(statistics.stability)} of bootstrap replicates.`);
  if ("heldout_iou" in statistics) sentences.push(`IoU on held-out images: ${statistics.heldout_iou.toFixed(3)}.`);
  if ("p_value" in statistics) {
    const adjusted = [["q_value_bh", "Benjamini-Hochberg"], ["q_value_by", "Benjamini-Yekutieli"]].filter(([key]) => key in statistics);
    sentences.push(`Permutation test: p = ${digits(statistics.p_value)}`
      + adjusted.map(([key, name], index) => `${index ? ", " : "; adjusted for all units, q = "}${digits(statistics[key])} (${name})`).join("") + ".");
  }
  return sentences.join(" ");
}

function showMetrics({ metric_titles: titles, scores }) {
  const columns = Object.keys(titles), rows = scores.filter((score) => Object.keys(score.metrics).length);
  $(".more-scores").hidden = !rows.length;
  $(".more-scores table").replaceChildren(
    el("thead", {}, el("tr", {}, ["concept", ...Object.values(titles)].map((text, index) => el("th", { scope: "col", className: index ? "n" : "" }, text)))),
    el("tbody", {}, rows.map((score) => el("tr", {},
      el("th", { scope: "row" }, el("span", { className: "dot", title: score.category, vars: { c: colorOf(run.colors, score.category) } }), score.concept),
      columns.map((name) => el("td", { className: "n" }, name in score.metrics ? score.metrics[name].toFixed(3) : ""))))));
}

show();
