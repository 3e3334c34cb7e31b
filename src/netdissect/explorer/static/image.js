// The units that are active in an processed image or in one of the data set, and where.
import { $, counted, QuantileSlider, requestJson, card, colorOf, el, saveState, debounce, latest, labelText, layerOptions, number, options, percent, query, loadState, maskOf, showError, unitAddress } from "./lib.js";

const TYPES = ["image/jpeg", "image/png", "image/webp"];
const LARGEST = 10 * 2 ** 20;
const state = loadState({ run: "", layer: "", image_index: "", quantile: "" });
const runs = await requestJson("/api/runs");
const form = $(".controls");
const drop = $(".drop");
const canvas = $(".canvas");
const cross = $(".cross");
let run = runs.find((each) => each.id === state.run) ?? runs[0];
let processed = null; // the image on which the network was run
let file = null; // the processed file, sent again for another run
let point = null;

options(form.run, runs.map((each) => [each.id, each.name]), run.id);
const slider = new QuantileSlider(debounce((value) => { state.quantile = value; explain(); }));

function chooseRun() {
  run = runs.find((each) => each.id === form.run.value);
  layerOptions(form.layer, run.layers, state.layer);
  slider.set(run.quantiles, run.layers[form.layer.value].quantile_range, state.quantile);
  drop.hidden = Boolean(run.inference_unavailable);
  showError(run.inference_unavailable ? { message: run.inference_unavailable } : null);
}

const explain = latest(async (current) => {
  saveState({ ...state, run: run.id, layer: form.layer.value });
  if (!processed) return;
  const result = await requestJson(`/api/runs/${run.id}/inference/${processed.id}/units${query({
    layer: form.layer.value, quantile: slider.value, at: point?.join(","), limit: 24 })}`);
  if (!current()) return;
  $(".answer").hidden = false;
  $(".hint").hidden = false;
  $(".whole").hidden = !point;
  $(".answer h2").textContent = point ? "Units active at the point" : "Active units";
  $(".small-lead").replaceChildren(el("b", {}, number(result.active)), ` of ${counted(result.masks.units, "units")} ${result.active === 1 ? "is" : "are"} active ${point ? "there" : "somewhere"}.`,
    result.units.length < result.active ? ` Those with the rarest activation:` : "");
  $(".labels").replaceChildren(...(point ? [] : result.concepts.slice(0, 10)).map((each) =>
    el("li", { vars: { c: colorOf(run.colors, each.category) } }, each.concept, el("small", {}, ` ${counted(each.units.length, "units")}, ${percent(each.area)} of the image`))));
  $(".answer .units").replaceChildren(...result.units.map((unit) => {
    const image = { url: processed.url, outline: unit.outline, view_box: unit.view_box, image: "" };
    const made = card(unit, {
      colors: run.colors, href: unitAddress(run, result.layer, unit.unit), value: percent(unit.area),
      body: [overlayTile(image), el("p", { className: "why" }, rarity(unit.share_above))],
    });
    for (const kind of ["mouseenter", "focusin"]) made.addEventListener(kind, () => overlay(unit));
    return made;
  }));
  if (result.units.length) overlay(result.units[0]); else overlay(null);
  slider.note.textContent = result.masks.note;
});

const rarity = (share) => share === 0 ? "Higher than all its activations on the data set." : `Only ${percent(share)} of its activations on the data set are higher.`;

function overlayTile(image) {
  const shape = maskOf(image);
  const made = el("span", { className: "tile" }, el("img", { src: image.url, alt: "", decoding: "async" }), shape);
  made.style.aspectRatio = `${processed.width} / ${processed.height}`;
  return made;
}

function overlay(unit) {
  $("svg", canvas).setAttribute("viewBox", unit ? unit.view_box : "0 0 1 1");
  $("path", canvas).setAttribute("d", unit ? unit.outline : "M0 0h1v1h-1z");
  canvas.dataset.unit = unit ? unit.unit : "";
  $(".point").title = unit ? `Bright: where unit ${unit.unit} (${labelText(unit)}) is active` : "";
}

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
  $(".answer").hidden = true;
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
pad.addEventListener("click", (event) => {
  if (event.detail) { // by pointer; with the keyboard the cross is placed already
    const box = pad.getBoundingClientRect();
    placeCross((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  } else if (!point) placeCross(0.5, 0.5);
  explain();
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
