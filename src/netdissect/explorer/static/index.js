// Counts of every layer, requested one after the other.
import { $, $$, requestJson, number, showError } from "./lib.js";

for (const table of $$("table[data-run]"))
  for (const row of $$("tr[data-layer]", table))
    try {
      const counts = await requestJson(`/api/runs/${table.dataset.run}/layers/${row.dataset.layer}/counts`);
      const top = counts.counts.find((each) => each.rule === "top-label");
      $(".detectors", row).textContent = number(top.detectors.total);
      $(".unique", row).textContent = number(top.unique_detectors.total);
    } catch (problem) {
      showError(problem);
    }
