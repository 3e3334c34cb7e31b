// Two layers side by side: counts, scatter, concepts gained and lost, units matched by activation.
import { $, counted, LimitSlider, requestJson, requestPage, colorOf, countsTable, el, saveState, debounce, latest, layerOptions, number, options, percent, query, loadState, svg } from "./lib.js";

const NAMED = 12;
const DIRECTIONS = [[1, 0], [-1, 0], [0, -1], [0, 1], [0.7, -0.7], [-0.7, -0.7], [0.7, 0.7], [-0.7, 0.7]];
const state = loadState({ left: "", left_layer: "", right: "", right_layer: "", quantile: "", min_iou: "", rule: "top-label" });
const runs = await requestJson("/api/runs");
const byId = Object.fromEntries(runs.map((run) => [run.id, run]));
const form = $(".controls");
const names = runs.map((run) => [run.id, run.name]);
options(form.left, names, state.left || runs[0].id);
options(form.right, names, state.right || (runs[1] ?? runs[0]).id);
form.rule.value = state.rule;
const limit = new LimitSlider(debounce((value) => { state.min_iou = value; show(); }));

function fill() {
  for (const side of ["left", "right"]) {
    const run = byId[form[side].value];
    layerOptions(form[`${side}_layer`], run.layers, state[`${side}_layer`]);
  }
  const common = byId[form.left.value].quantiles.filter((each) => byId[form.right.value].quantiles.includes(each));
  options(form.quantile, common.map((each) => [each, percent(each)]), state.quantile);
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", (event) => {
  for (const name of Object.keys(state)) if (form[name]) state[name] = form[name].value;
  if (event.target.name === "left" || event.target.name === "right") { state[`${event.target.name}_layer`] = ""; fill(); }
  show();
});

const show = latest(async (current) => {
  const params = Object.fromEntries(["left", "left_layer", "right", "right_layer", "quantile", "rule"].map((name) => [name, form[name].value]));
  params.min_iou = limit.value;
  saveState(params);
  nearPairs.disconnect();
  $(".pairs").replaceChildren();
  const result = await requestJson(`/api/compare${query(params)}`);
  if (!current()) return;
  const { left, right, changes } = result;
  const colors = { ...byId[left.run].colors, ...byId[right.run].colors };
  const names = Object.fromEntries(Object.entries({ left, right }).map(([name, side]) => [name, `${byId[side.run].name}, ${side.layer_name}`]));
  $(".different-data").hidden = result.same_data;
  $(".lead").replaceChildren(el("b", {}, number(changes.gained ?? 0)), changes.gained === 1 ? " concept gained, " : " concepts gained, ", el("b", {}, number(changes.lost ?? 0)), " lost, ",
    el("b", {}, number(changes.kept ?? 0)), " kept from left to right.");
  $(".sentences").replaceChildren(...result.sentences.map((each) =>
    el("li", {}, each.replace(/^(right minus left|left|right):/, (head) => head.replace(/left|right/g, (side) => names[side])))));
  countsTable($("table.counts"), [names.left, names.right],
    [...new Set([...byId[left.run].categories, ...byId[right.run].categories]), "total"].map((name) =>
      [name, [left, right].map((side) => [side.detectors[name] ?? 0, side.unique_detectors[name] ?? 0])]), colors);
  $(".scatter").replaceChildren(scatter(result, colors));
  for (const change of ["gained", "lost", "kept"]) {
    const of = result.concepts.filter((each) => each.change === change)
      .sort((a, b) => Math.max(b.left_iou ?? 0, b.right_iou ?? 0) - Math.max(a.left_iou ?? 0, a.right_iou ?? 0));
    $(`.${change}-title`).textContent = `${change[0].toUpperCase()}${change.slice(1)} (${number(of.length)})`;
    $(`.found.${change}`).replaceChildren(...of.map((each) => el("li", { vars: { c: colorOf(colors, each.category) } },
      el("a", { href: each.url }, each.concept),
      el("small", {}, `${each.left_iou_text ?? "–"} → ${each.right_iou_text ?? "–"}`))));
  }
  nearPairs.observe($(".matching"));
});

function scatter(result, colors) {
  const points = result.concepts.filter((each) => each.left_iou !== null || each.right_iou !== null);
  const most = Math.max(0.1, ...points.map((each) => Math.max(each.left_iou ?? 0, each.right_iou ?? 0)));
  const side = 320, left = 54, top = 8;
  const x = (value) => left + (side * (value ?? 0)) / most;
  const y = (value) => top + side - (side * (value ?? 0)) / most;
  const drawn = svg("svg", { viewBox: `0 0 ${left + side + 12} ${top + side + 40}`, role: "img", class: "plot",
    "aria-label": `Best IoU of ${counted(points.length, "concepts")}, left against right. The lists below give the same values.` });
  drawn.append(
    svg("line", { x1: x(0), y1: y(0), x2: x(most), y2: y(most), class: "even" }),
    svg("line", { x1: x(limit.value), y1: y(0), x2: x(limit.value), y2: y(most), class: "limit" }),
    svg("line", { x1: x(0), y1: y(limit.value), x2: x(most), y2: y(limit.value), class: "limit" }),
    svg("path", { d: `M${x(0)} ${y(most)}V${y(0)}H${x(most)}`, class: "axis" }));
  for (const value of [0, most / 2, most]) {
    drawn.append(svg("text", { x: x(value), y: y(0) + 18, "text-anchor": "middle" }, value.toFixed(2)),
      svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2)));
  }
  const [across, up] = [result.left, result.right].map((each) => `${byId[each.run].name}, ${each.layer_name}`.slice(0, 44));
  drawn.append(svg("text", { x: x(most / 2), y: y(0) + 36, "text-anchor": "middle" }, across),
    svg("text", { x: 10, y: y(most / 2), "text-anchor": "middle", transform: `rotate(-90 10 ${y(most / 2)})` }, up));
  for (const each of points) {
    const color = colorOf(colors, each.category);
    const dot = svg("circle", { cx: x(each.left_iou), cy: y(each.right_iou), r: 4, stroke: color, fill: each.change === "absent" ? "none" : color },
      svg("title", {}, `${each.concept}: ${each.left_iou_text ?? "–"} → ${each.right_iou_text ?? "–"}`));
    drawn.append(dot);
  }
  drawn.dataset.values = JSON.stringify(Object.fromEntries(
    ["concept", "category", "change", "left_unit", "left_iou", "right_unit", "right_iou"].map((name) => [name, points.map((each) => each[name])])));
  drawn.append(...pointNames(points.map((each) => ({ ...each, x: x(each.left_iou), y: y(each.right_iou) })), [left, top, left + side, top + side]));
  return drawn;
}

// The names of the concepts that differ most, each at the closest free place and linked to its point; as in `figure concept-scatter`.
function pointNames(points, [west, north, east, south]) {
  const taken = points.map((each) => [each.x - 5, each.y - 5, each.x + 5, each.y + 5]);
  const free = (box) => box[0] >= west && box[1] >= north && box[2] <= east && box[3] <= south &&
    taken.every((other) => box[2] <= other[0] || box[0] >= other[2] || box[3] <= other[1] || box[1] >= other[3]);
  const gap = (each) => Math.abs((each.left_iou ?? 0) - (each.right_iou ?? 0));
  const drawn = [];
  for (const each of points.filter((one) => one.change !== "absent").sort((a, b) => gap(b) - gap(a)).slice(0, NAMED)) {
    const half = [each.concept.length * 3.2 + 2, 7];
    const places = [10, 20, 34].flatMap((distance) => DIRECTIONS.map(([right, down]) =>
      [each.x + right * (distance + half[0]), each.y + down * (distance + half[1])]));
    const place = places.find(([px, py]) => free([px - half[0], py - half[1], px + half[0], py + half[1]]));
    if (!place) continue;
    taken.push([place[0] - half[0], place[1] - half[1], place[0] + half[0], place[1] + half[1]]);
    const end = [0, 1].map((axis) => Math.min(Math.max([each.x, each.y][axis], place[axis] - half[axis]), place[axis] + half[axis]));
    drawn.push(svg("line", { x1: each.x, y1: each.y, x2: end[0], y2: end[1], class: "even" }),
      svg("text", { x: place[0], y: place[1] + 4, "text-anchor": "middle" }, each.concept));
  }
  return drawn;
}

const match = latest(async (current) => {
  const layers = Object.fromEntries(["left", "left_layer", "right", "right_layer"].map((name) => [name, form[name].value]));
  const part = await requestPage(`/compare/matches${query(layers)}`).catch((problem) => problem);
  if (current()) $(".pairs").replaceChildren(...(part instanceof Error ? [el("p", {}, part.message)] : part.body.children));
});
// Units are matched when the reader comes near.
const nearPairs = new IntersectionObserver((seen) => {
  if (!seen.some((each) => each.isIntersecting)) return;
  nearPairs.disconnect();
  match();
}, { rootMargin: "300px" });

fill();
limit.set(state.min_iou || byId[form.left.value].layers[form.left_layer.value].min_iou);
show();
