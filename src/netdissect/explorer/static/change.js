// Change units of a generator in a sample: which units, ablated or inserted, in which cells of the layer.
import { $, $$, exchangeParts, latest, requestPage } from "./lib.js";

const STRENGTHS = { ablate: [0.25, 0.5, 0.75, 1], insert: [0.5, 1, 2, 4] };

/** The form "Change units", the brush on the image, and the strip of strengths. */
export class SampleChange {
  constructor(answer, canvas, address, layer) {
    Object.assign(this, { answer, canvas, cells: new Set(), grid: [1, 1] });
    this.brush = $("button.brush");
    this.brush.addEventListener("click", () => this.toggle(!this.brushing));
    $(".erase").addEventListener("click", () => { this.cells.clear(); this.draw(); });
    this.path = $(".painted path", canvas);
    answer.addEventListener("submit", (event) => {
      event.preventDefault();
      if (event.target.matches(".change")) this.apply(address(), layer());
    });
    answer.addEventListener("change", (event) => {
      if (event.target.name === "chosen") this.choose(event.target.selectedOptions[0]);
    });
    answer.addEventListener("click", (event) => this.clicked(event.target.closest("button")));
    this.apply = latest(this.apply.bind(this));
  }

  get form() { return $(".change", this.answer); }
  get brushing() { return this.brush.getAttribute("aria-pressed") === "true"; }

  toggle(on) {
    this.brush.setAttribute("aria-pressed", on);
    this.canvas.classList.toggle("brushing", on);
  }

  /** A new answer has another form; cells of another layer are forgotten. */
  renew() {
    const [height, width] = this.form ? [Number(this.form.dataset.height), Number(this.form.dataset.width)] : [1, 1];
    if (`${this.grid}` !== `${[height, width]}`) this.cells.clear();
    this.grid = [height, width];
    for (const each of $$(".brushes")) each.hidden = !this.form;
    if (!this.form) this.toggle(false);
    this.draw();
  }

  clicked(button) {
    if (!button) return;
    const card = button.closest(".seen");
    if (button.matches(".strengths button")) this.show(button.dataset.strength);
    else if (button.dataset.concept) this.select("concept", button.dataset.concept);
    else if (card) this.select("units", $("[data-unit]", card).dataset.unit);
  }

  /** Choose a concept or unit that was clicked elsewhere on the page. */
  select(type, value) {
    if (!this.form) return;
    const all = $$("[data-type]", this.form), listed = all.find((each) => each.dataset.type === "list");
    const option = all.find((each) => each.dataset.type === type && each.value === value) ?? listed;
    if (option === listed) this.form.units.value = type === "units" ? value : "";
    option.selected = true;
    this.choose(option);
  }

  choose(option) { $(".listed", this.form).hidden = option.dataset.type !== "list"; }

  show(strength) {
    for (const each of $$(".changed", this.answer)) each.hidden = each.dataset.strength !== strength;
    for (const each of $$(".strengths [data-strength]", this.answer)) each.setAttribute("aria-pressed", each.dataset.strength === strength);
  }

  /** Paint the cells around a point, x and y as shares of the image. */
  paint(x, y) {
    const [height, width] = this.grid, radius = Number($(".brushes input").value);
    const column = Math.min(width - 1, Math.floor(x * width)), row = Math.min(height - 1, Math.floor(y * height));
    this.cells.add(row * width + column);
    for (let r = 0; r < height; r++)
      for (let c = 0; c < width; c++)
        if (Math.hypot(r + 0.5 - y * height, c + 0.5 - x * width) < radius) this.cells.add(r * width + c);
    this.draw();
  }

  draw() {
    const [height, width] = this.grid;
    this.path.parentNode.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.path.setAttribute("d", [...this.cells].map((cell) => `M${cell % width} ${Math.floor(cell / width)}h1v1h-1z`).join(""));
    $(".erase").disabled = !this.cells.size;
    if (this.form) $(".where", this.answer).textContent = this.cells.size ? `in ${this.cells.size} painted cell${this.cells.size === 1 ? "" : "s"}` : "everywhere";
  }

  units() {
    const { dataset, value } = this.form.chosen.selectedOptions[0];
    if (dataset.type === "concept") return { concept: value };
    const listed = dataset.type === "list" ? this.form.units.value.split(/[\s,]+/).filter(Boolean) : [value];
    if (!listed.length || !listed.every((each) => /^\d{1,9}$/.test(each)))
      throw new Error(`The units are “${this.form.units.value}”. Expected numbers, such as 4, 17.`);
    return { units: listed.map(Number) };
  }

  async apply(current, address, layer) {
    const how = this.form.how.value, [, width] = this.grid;
    const cells = this.cells.size ? [...this.cells].map((cell) => [Math.floor(cell / width), cell % width]) : null;
    const body = JSON.stringify({ ...layer, ...this.units(), how, cells, strengths: STRENGTHS[how] });
    const page = await requestPage(`${address}/edit`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (current()) { exchangeParts(page, ["change"]); this.show("1"); }
  }
}
