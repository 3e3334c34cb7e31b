// The units that are active in an image of the user or of the data set: where, and what the network says without them.
// Of a generator the images are its samples, in which units are changed (change.js).
import { $, $$, QuantileSlider, requestJson, requestPage, exchangeParts, saveState, debounce, latest, el, layerOptions, options, query, loadState, showError } from "./lib.js";
import { SampleChange } from "./change.js";

const TYPES = ["image/jpeg", "image/png", "image/webp"];
const LARGEST = 10 * 2 ** 20;
const SAMPLES = 8;
const state = loadState({ run: "", layer: "", image_index: "", quantile: "" });
const runs = await requestJson("/api/runs");
const form = $(".controls");
const drop = $(".drop");
const canvas = $(".canvas");
const cross = $(".cross");
const answer = $(".answer");
let run = runs.find((each) => each.id === state.run) ?? runs[0];
let processed = null; // the image on which the network was run
let file = null; // the processed file, sent again for another run
let point = null;
let pinned = null; // the pressed button whose mask stays on the image

options(form.run, runs.map((each) => [each.id, each.name]), run.id);
const slider = new QuantileSlider(debounce((value) => { state.quantile = value; explain(); }));

function chooseRun() {
  run = runs.find((each) => each.id === form.run.value);
  layerOptions(form.layer, run.layers, state.layer);
  slider.set(run.quantiles, run.layers[form.layer.value].quantile_range, state.quantile);
  drop.hidden = Boolean(run.inference_unavailable) || run.samples;
  $(".unavailable").hidden = !run.inference_unavailable;
  $(".samples").hidden = !run.samples || Boolean(run.inference_unavailable);
  if (!$(".samples").hidden) showSamples(Number(state.image_index) || 0);
  $(".unavailable").textContent = run.inference_unavailable ?? "";
}

const address = () => `/image/${run.id}/${processed.id}`;
const explain = latest(async (current) => {
  saveState({ ...state, run: run.id, layer: form.layer.value });
  if (!processed) return;
  const page = await requestPage(`${address()}${query({ layer: form.layer.value, quantile: slider.value, at: point?.join(",") })}`);
  if (!current()) return;
  const segmented = $("#segmented-title")?.textContent === $("#segmented-title", page)?.textContent && point;
  exchangeParts(page, segmented ? ["active"] : ["segments", "legend", "ablation", "active", "quantile"]);
  $(".mask", canvas).setAttribute("viewBox", $(".segments", canvas).getAttribute("viewBox")); // one grid for all masks
  answer.hidden = false;
  $(".hint").hidden = false;
  $(".whole").hidden = !point;
  pinned = null;
  overlay(null);
  change.renew();
});
const change = new SampleChange(answer, canvas, address, () => ({ layer: Number(form.layer.value), quantile: slider.value }));

/** Show where a concept or unit is active; null: the segments. */
function overlay(outline) {
  canvas.dataset.show = outline === null ? "segments" : "mask";
  $(".mask path", canvas).setAttribute("d", outline ?? "");
}
const masked = (event) => event.target.closest?.("[data-outline]");
const outlineOf = (node) => node?.dataset.outline ?? null;
for (const kind of ["mouseover", "focusin"])
  answer.addEventListener(kind, (event) => overlay(outlineOf(masked(event) ?? pinned)));
answer.addEventListener("mouseleave", () => overlay(outlineOf(pinned)));
answer.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-outline]");
  if (!button) return;
  for (const other of $$("[aria-pressed=true]", answer)) other.setAttribute("aria-pressed", "false");
  pinned = pinned === button ? null : button;
  if (pinned?.hasAttribute("aria-pressed")) pinned.setAttribute("aria-pressed", "true");
  overlay(outlineOf(pinned));
});

const ablate = latest(async (current, chosen) => {
  const what = chosen.dataset.type === "concept" ? { concept: chosen.value } : { units: [Number(chosen.value)] };
  const page = await requestPage(`${address()}/ablation`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ layer: Number(form.layer.value), quantile: slider.value, ...what }),
  });
  if (current()) exchangeParts(page, ["classes"]);
});
answer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.target.matches(".ablate")) ablate(event.target.ablated.selectedOptions[0]);
});

const accept = latest(async (current, upload) => {
  $(".shown-count").textContent = "Running the network …";
  try {
    const image = await upload();
    if (!current()) return;
    processed = image;
    point = null;
    cross.hidden = true;
    $("img", canvas).src = image.url;
    canvas.style.aspectRatio = `${image.width} / ${image.height}`;
    answer.style.setProperty("--shape", `${image.width} / ${image.height}`);
    canvas.hidden = false;
    drop.classList.add("again");
    await explain();
  } finally {
    $(".shown-count").textContent = "";
  }
});

function send(chosen) {
  if (!chosen) return;
  if (!TYPES.includes(chosen.type)) return showError({ message: `${chosen.name || "The file"} is not a JPEG, PNG or WebP image.` });
  if (chosen.size > LARGEST) return showError({ message: `${chosen.name || "The image"} has more than 10 MB; send a smaller copy.` });
  file = chosen;
  state.image_index = "";
  return accept(() => requestJson(`/api/runs/${run.id}/inference`, { method: "POST", headers: { "Content-Type": chosen.type }, body: chosen }));
}

const runAgain = () => {
  if (file) send(file);
  else if (state.image_index) accept(() => requestJson(`/api/runs/${run.id}/images/${state.image_index}/inference`, { method: "POST" }));
};

// The samples of a generator: a strip of some that follow each other, and any by its number.
const picker = $(".pick-sample");
function showSamples(first) {
  const count = Math.min(SAMPLES, run.images), from = Math.min(first, run.images - count);
  picker.sample.max = run.images - 1;
  if (state.image_index) picker.sample.value = state.image_index;
  $(".samples .strip").replaceChildren(...Array.from({ length: count }, (_, index) => from + index).map((index) =>
    el("li", {}, el("button", { type: "button", data: { sample: index }, aria: { pressed: String(index) === state.image_index, label: `Sample ${index}` } },
      el("img", { className: "plain", src: `/images/${run.data_index}/${index}.webp`, alt: "" }), el("span", {}, index)))));
}
function showSample(index) {
  if (!picker.sample.checkValidity()) return picker.sample.reportValidity();
  state.image_index = String(index);
  for (const each of $$(".samples [data-sample]")) each.setAttribute("aria-pressed", each.dataset.sample === state.image_index);
  return runAgain();
}
picker.addEventListener("submit", (event) => { event.preventDefault(); showSample(picker.sample.value); });
$(".samples .strip").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) showSample(picker.sample.value = button.dataset.sample);
});
$(".another").addEventListener("click", () => showSamples(Math.floor(Math.random() * run.images)));

$("input", drop).addEventListener("change", (event) => { send(event.target.files[0]); event.target.value = ""; });
for (const kind of ["dragover", "dragenter"])
  document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  send(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => { if (event.clipboardData?.files.length) send(event.clipboardData.files[0]); });

form.addEventListener("submit", (event) => event.preventDefault());
form.run.addEventListener("change", () => {
  state.layer = "";
  if (!file) state.image_index = ""; // the other run may have another data set
  processed = null;
  canvas.hidden = true;
  answer.hidden = true;
  chooseRun();
  if (!run.inference_unavailable) runAgain();
});
form.layer.addEventListener("change", () => {
  state.layer = form.layer.value;
  slider.set(run.quantiles, run.layers[form.layer.value].quantile_range, slider.value);
  explain();
});

function placeCross(x, y) {
  point = [Math.min(1, Math.max(0, x)), Math.min(1, Math.max(0, y))].map((each) => Number(each.toFixed(4)));
  cross.hidden = false;
  cross.style.left = `${100 * point[0]}%`;
  cross.style.top = `${100 * point[1]}%`;
}
const pad = $(".point");
const inPad = (event) => {
  const box = pad.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
};
for (const kind of ["pointerdown", "pointermove"])
  pad.addEventListener(kind, (event) => {
    const [x, y] = inPad(event);
    if (change.brushing && event.buttons === 1 && x >= 0 && x <= 1 && y >= 0 && y <= 1) change.paint(x, y);
  });
pad.addEventListener("click", (event) => {
  if (event.detail && change.brushing) return;
  if (event.detail) placeCross(...inPad(event)); // by pointer; with the keyboard the cross is placed already
  else if (!point) placeCross(0.5, 0.5);
  if (change.brushing) change.paint(...point); else explain();
});
pad.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!step) return;
  event.preventDefault();
  const [x, y] = point ?? [0.5, 0.5];
  placeCross(x + step[0] / 28, y + step[1] / 28);
});
$(".whole").addEventListener("click", () => { point = null; cross.hidden = true; explain(); });

chooseRun();
if (state.image_index && !run.inference_unavailable) runAgain();
