// Counts of every layer, asked for one after the other.
import { $, $$, ask, number, tell } from "./lib.js";

for (const table of $$("table[data-run]"))
  for (const row of $$("tr[data-layer]", table))
    try {
      const counts = await ask(`/api/runs/${table.dataset.run}/layers/${row.dataset.layer}/counts`);
      const top = counts.counts.find((each) => each.rule === "top-label");
      $(".detectors", row).textContent = number(top.detectors.total);
      $(".unique", row).textContent = number(top.unique_detectors.total);
    } catch (problem) {
      tell(problem);
    }
