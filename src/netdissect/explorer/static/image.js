// An image of one's own, or one of the data set: which units fire where.
import { $, QuantileSlider, ask, card, colorOf, el, keep, later, latest, maskChoice, nameOf, number, options, percent, query, stateOf, svg, tell, unitAddress } from "./lib.js";

const TYPES = ["image/jpeg", "image/png", "image/webp"];
const LARGEST = 10 * 2 ** 20;
const state = stateOf({ run: "", layer: "", row: "", quantile: "" });
const runs = await ask("/api/runs");
const form = $(".controls");
const drop = $(".drop");
const canvas = $(".canvas");
const cross = $(".cross");
let run = runs.find((each) => each.id === state.run) ?? runs[0];
let uploaded = null; // what the server has looked at
let file = null; // what was sent, to be sent again for another run
let point = null;

options(form.run, runs.map((each) => [each.id, each.name]), run.id);
const slider = new QuantileSlider(later((value) => { state.quantile = value; explain(); }));
maskChoice();

function chooseRun() {
  run = runs.find((each) => each.id === form.run.value);
  options(form.layer, run.layers.map((each) => [each.index, each.name]), state.layer || run.layers.length - 1);
  slider.set(run, Number(form.layer.value), state.quantile);
  drop.hidden = Boolean(run.why_no_network);
  tell(run.why_no_network ? { message: run.why_no_network } : null);
}

const explain = latest(async (current) => {
  keep({ ...state, run: run.id, layer: form.layer.value });
  if (!uploaded) return;
  const found = await ask(`/api/runs/${run.id}/images/${uploaded.image}/units${query({
    layer: form.layer.value, quantile: slider.value, at: point?.join(","), limit: 24 })}`);
  if (!current()) return;
  $(".answer").hidden = false;
  $(".hint").hidden = false;
  $(".whole").hidden = !point;
  $(".answer h2").textContent = point ? "Units that fire at the point" : "Units that fire";
  $(".small-lead").replaceChildren(el("b", {}, number(found.firing)), ` of ${number(found.masks.units)} units ${found.firing === 1 ? "is" : "are"} on ${point ? "there" : "somewhere"}.`,
    found.units.length < found.firing ? ` Those of the rarest activation:` : "");
  $(".labels").replaceChildren(...(point ? [] : found.concepts.slice(0, 10)).map((each) =>
    el("li", { vars: { c: colorOf(run.colors, each.category) } }, each.concept, el("small", {}, ` ${number(each.units.length)} ${each.units.length === 1 ? "unit" : "units"}, ${percent(each.area)} of the image`))));
  $(".answer .units").replaceChildren(...found.units.map((unit) => {
    const image = { thumbnail: uploaded.address, outline: unit.outline, image: "" };
    const made = card(unit, {
      colors: run.colors, href: unitAddress(run.id, found.layer, unit.unit), value: percent(unit.area),
      body: [look(image), el("p", { className: "why" }, rarity(unit.share_above))],
    });
    for (const kind of ["mouseenter", "focusin"]) made.addEventListener(kind, () => overlay(unit));
    return made;
  }));
  if (found.units.length) overlay(found.units[0]); else overlay(null);
  slider.explain(found.masks);
});

const rarity = (share) => share === 0 ? "Above everything the data set holds." : `Only ${percent(share)} of its activations on the data set are higher.`;

function look(image) {
  const shape = svg("svg", { viewBox: "0 0 128 128", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("path", { d: image.outline }));
  const made = el("span", { className: "tile" }, el("img", { src: image.thumbnail, alt: "", decoding: "async" }), shape);
  made.style.aspectRatio = `${uploaded.width} / ${uploaded.height}`;
  return made;
}

function overlay(unit) {
  $("path", canvas).setAttribute("d", unit ? unit.outline : "M0 0 128 0 128 128 0 128Z");
  canvas.dataset.unit = unit ? unit.unit : "";
  $(".point").title = unit ? `Bright: where unit ${unit.unit} (${nameOf(unit)}) is on` : "";
}

const accept = latest(async (current, looked) => {
  $(".tally").textContent = "The network looks at it …";
  try {
    const seen = await looked();
    if (!current()) return;
    uploaded = seen;
    point = null;
    cross.hidden = true;
    $("img", canvas).src = seen.address;
    canvas.style.aspectRatio = `${seen.width} / ${seen.height}`;
    canvas.hidden = false;
    drop.classList.add("again");
    await explain();
  } finally {
    $(".tally").textContent = "";
  }
});

function send(chosen) {
  if (!chosen) return;
  if (!TYPES.includes(chosen.type)) return tell({ message: `${chosen.name || "The file"} is no JPEG, PNG or WebP image.` });
  if (chosen.size > LARGEST) return tell({ message: `${chosen.name || "The image"} has more than 10 MB; send a smaller copy.` });
  file = chosen;
  state.row = "";
  return accept(() => ask(`/api/runs/${run.id}/images`, { method: "POST", headers: { "Content-Type": chosen.type }, body: chosen }));
}

const sendAgain = () => {
  if (file) send(file);
  else if (state.row) accept(() => ask(`/api/runs/${run.id}/rows/${state.row}`, { method: "POST" }));
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
  if (!file) state.row = ""; // rows are numbers of another data set there
  uploaded = null;
  canvas.hidden = true;
  $(".answer").hidden = true;
  chooseRun();
  if (!run.why_no_network) sendAgain();
});
form.layer.addEventListener("change", () => {
  state.layer = form.layer.value;
  slider.set(run, Number(form.layer.value), slider.value);
  explain();
});

function place(x, y) {
  point = [Math.min(1, Math.max(0, x)), Math.min(1, Math.max(0, y))].map((each) => Number(each.toFixed(4)));
  cross.hidden = false;
  cross.style.left = `${100 * point[0]}%`;
  cross.style.top = `${100 * point[1]}%`;
}
const pad = $(".point");
pad.addEventListener("click", (event) => {
  if (event.detail) { // by pointer; the keyboard has placed the cross already
    const box = pad.getBoundingClientRect();
    place((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  } else if (!point) place(0.5, 0.5);
  explain();
});
pad.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!step) return;
  event.preventDefault();
  const [x, y] = point ?? [0.5, 0.5];
  place(x + step[0] / 28, y + step[1] / 28);
});
$(".whole").addEventListener("click", () => { point = null; cross.hidden = true; explain(); });

chooseRun();
if (state.row && !run.why_no_network) sendAgain();
