r"""Time, memory and proofs of the search for formulas.

    python -m benchmarks.formulas run RUN --concepts BRODEN --layer LAYER      units of a run with --keep-masks
    python -m benchmarks.formulas make BRODEN1 --out FOLDER                    a table of the size of Broden, and masks
    python -m benchmarks.formulas search FOLDER                                planted units, and units moved elsewhere

BRODEN1 is a folder with Broden's own c_object.csv, c_part.csv and so on; see `benchmarks/formula_images.py`.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.formula_images import (
    ImageMaker,
    PlantedArrays,
    count_masks,
    plant,
    rows_of_sets,
)
from netdissect.concepts import ConceptData
from netdissect.config import Execution
from netdissect.dissect.compose.label_set_pass import LabelSetPass
from netdissect.result.files import load_result
from netdissect.scoring.formulas import ActiveRows, FormulaResult, FormulaSearch, LabelSetTable, SearchOptions
from netdissect.scoring.formulas.image_rows import MaskRows

BLOCK = 512
ARRAYS = ("category_of", "label_ids", "offsets", "annotated", "pixels")


def make(broden: Path, out: Path, images: int, units: int) -> None:
    """Draw images and masks, and write their table and the active pixels of each unit."""
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    maker = ImageMaker.read(broden)
    category_of = maker.category_of()
    planted = plant(maker, units)
    arrays = PlantedArrays.of(planted)
    tables, entries, before = [], [], np.zeros((0, 0), np.int32)
    for first in range(0, images, BLOCK):
        singles, masks = [], []
        for index in range(first, min(first + BLOCK, images)):
            sets, bits = maker.draw(index)
            singles.append(rows_of_sets(sets, bits, category_of))
            sets_before = 0 if index == first else len(singles[-2])
            single = singles[-1]
            masks.append(
                count_masks(single.label_ids, single.offsets, sets.index_map, before, sets_before, arrays, index)
            )
            before = sets.index_map
        table, rows = LabelSetTable.merge(singles)
        for place, found in enumerate(masks):
            of_copy = found[:, 0] % 2 == 1
            found[~of_copy, 1] = rows[place][found[~of_copy, 1]]
            found[of_copy, 1] = rows[place - 1][found[of_copy, 1]]
        tables.append(table)
        entries.append(np.concatenate(masks).astype(np.int32))
        print(f"{min(first + BLOCK, images):,} images, {time.perf_counter() - start:.0f} s", file=sys.stderr)
    table, rows = LabelSetTable.merge(tables)
    np.savez(out / "table.npz", **{name: getattr(table, name) for name in ARRAYS})
    for unit in range(2 * units):
        chosen = [block[block[:, 0] == unit] for block in entries]
        moved = np.concatenate([places[block[:, 1]] for block, places in zip(chosen, rows, strict=True)])
        np.savez(out / f"unit-{unit}.npz", *ActiveRows.of(moved, np.concatenate([block[:, 2] for block in chosen])))
    (out / "planted.json").write_text(
        json.dumps([[*unit.formula.label_ids, *unit.formula.operators, unit.iou] for unit in planted])
    )
    print(f"{len(table):,} rows of {int(table.pixels.sum()):,} pixels and {len(np.unique(table.label_ids)):,} concepts")


def search(folder: Path, every: int, options: SearchOptions) -> None:
    """Search for the formulas of planted units and of their copies, and report times and gaps."""
    with np.load(folder / "table.npz") as file:
        table = LabelSetTable(*(file[name] for name in ARRAYS))
    planted = json.loads((folder / "planted.json").read_text())
    start = time.perf_counter()
    finder = FormulaSearch(table, options)
    finder.find(unit_of(folder, 0))
    print(f"{len(table):,} rows; the first unit {time.perf_counter() - start:.1f} s, with what all units share")
    for half in range(2):
        results = [timed(finder, unit_of(folder, unit)) for unit in range(half, 2 * len(planted), 2 * every)]
        report("copies elsewhere" if half else "planted", results)
        if not half:
            ious = [result.best.iou for result, _ in results if result.best]
            print(f"  IoU {min(ious):.3f} to {max(ious):.3f}")
    print(f"memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def unit_of(folder: Path, unit: int) -> ActiveRows:
    with np.load(folder / f"unit-{unit}.npz") as file:
        return ActiveRows(file["arr_0"], file["arr_1"])


def timed(finder: FormulaSearch, active: ActiveRows) -> tuple[FormulaResult, float]:
    start = time.process_time()
    return finder.find(active), time.process_time() - start


def report(name: str, results: list[tuple[FormulaResult, float]]) -> None:
    times = np.array([seconds for _, seconds in results])
    proven = sum(result.optimal for result, _ in results)
    gaps = [result.iou_upper_bound / result.best.iou - 1 for result, _ in results if result.best and not result.optimal]
    print(
        f"{name}: {len(results)} units, {proven} proven, processor time median {np.median(times):.4f} s, "
        f"95 % {np.quantile(times, 0.95):.4f} s, largest {times.max():.4f} s; "
        f"formulas extended, median {np.median([result.visited for result, _ in results]):,.0f}"
        + (f"; gap median {np.median(gaps):.1%}, largest {max(gaps):.1%}" if gaps else "")
    )


def run_units(run: Path, concepts: Path, layer: str) -> tuple[LabelSetTable, list[ActiveRows]]:
    """Make the table of a run, and the active pixels of the units of a layer."""
    result, data = load_result(run), ConceptData.open(concepts)
    quantile = result.info.config.protocol.quantiles[0]
    sets = LabelSetPass(result, data, quantile, run / "formulas", Execution()).tables([layer])
    table, new_rows = sets.image_rows().of_images(np.ones(len(data), bool))
    frame = sets.mask_rows(layer).collect()
    masks = MaskRows(*(frame[name].to_numpy() for name in frame.columns))
    units = range(result.layer(layer).info.units)
    chosen = [masks.units == unit for unit in units]
    return table, [ActiveRows.of(new_rows[masks.rows[unit]], masks.active[unit]) for unit in chosen]


def run(folder: Path, concepts: Path, layer: str, every: int, options: SearchOptions) -> None:
    """Search for the formulas of the units of a run, and compare with the beam search."""
    table, units = run_units(folder, concepts, layer)
    units = [unit for unit in units if unit.mask_pixels][::every]
    print(f"{len(table):,} rows, {len(np.unique(table.label_ids))} concepts")
    finder = FormulaSearch(table, options)
    beam = FormulaSearch(table, SearchOptions(options.length, method="beam", restriction=options.restriction))
    finder.find(units[0])
    results = [timed(finder, unit) for unit in units]
    by_beam = [timed(beam, unit) for unit in units]
    report("optimal", results)
    report("beam", by_beam)
    pairs = [(found.best, kept.best) for (found, _), (kept, _) in zip(results, by_beam, strict=True)]
    both = [(best, kept) for best, kept in pairs if best and kept]
    equal = sum(best.intersection * kept.union == kept.intersection * best.union for best, kept in both)
    print(f"the beam's formula is optimal for {equal} of {len(both)} units")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "make", "search"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--concepts", type=Path)
    parser.add_argument("--layer")
    parser.add_argument("--images", type=int, default=63_305)
    parser.add_argument("--units", type=int, default=128, help="planted units; as many copies are made")
    parser.add_argument("--every", type=int, default=1, help="search only every so many units")
    parser.add_argument("--length", type=int, default=3)
    parser.add_argument("--restriction", default="none")
    parser.add_argument("--time-limit", type=float)
    chosen = parser.parse_args()
    options = SearchOptions(chosen.length, restriction=chosen.restriction, time_limit=chosen.time_limit)
    if chosen.what == "make":
        make(chosen.folder, chosen.out, chosen.images, chosen.units)
    elif chosen.what == "search":
        search(chosen.folder, chosen.every, options)
    else:
        run(chosen.folder, chosen.concepts, chosen.layer, chosen.every, options)


if __name__ == "__main__":
    main()
