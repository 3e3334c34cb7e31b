"""How well a few hundred repetitions of chance and a fitted tail stand for many thousands.

python -m benchmarks.null_fit efficientnet_lite0 --concepts broden --layer _blocks.10 --many 4000 --few 200
"""

import argparse
import time

import numpy as np
from scipy.stats import gumbel_r

import netdissect
from netdissect.activations import batch_starts
from netdissect.config import RULES, DissectConfig, Execution, StatisticsConfig
from netdissect.dissect.passes import TwoPass
from netdissect.dissect.run_dissection import make_run_plan, open_inputs
from netdissect.dissect.statistics.permutation_pass import PermutationNull, PermutationTest
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.scoring.statistics.multiple_testing import adjust_pvalues, fdr_threshold, fit_gumbel, p_values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("--concepts", required=True)
    parser.add_argument("--layer", action="append", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--many", type=int, default=4000)
    parser.add_argument("--few", type=int, default=200)
    asked = parser.parse_args()
    statistics = StatisticsConfig(bootstrap=0, permutations=asked.many)
    config = DissectConfig(layers=tuple(asked.layer), max_images=asked.limit, statistics=statistics)
    network = netdissect.load_network(asked.network, weights=asked.weights)
    source = open_inputs(network, asked.concepts, config, Execution())
    with WorkDir(None, {}, every=3600, log=RunLog(None)) as work:
        starts = batch_starts(len(source.data), config.batch_size)
        two_pass = TwoPass(source, make_run_plan(source, work), work, None, starts, source.data.stamp())
        began = time.process_time()
        collectors = two_pass.threshold_pass()
        found = {name: collector.threshold_result() for name, collector in collectors.items()}
        counted = two_pass.count_pass(collectors, found)
        between = time.process_time()
        chances = PermutationTest.of(two_pass, counted).run()
        ended = time.process_time()
    print(f"CPU: run {between - began:.0f} s, {asked.many} repetitions {ended - between:.0f} s")
    for layer, chance in chances.items():
        print(layer)
        compare(chance, asked.few)


def compare(chance: PermutationNull, few: int) -> None:
    everything = chance.maxima[:, 0]
    alive = (everything > 0).all(axis=0)  # of silent units there is nothing to fit
    observed, many = chance.observed[0][alive], everything[:, alive]
    fitted, ranked = p_values(observed, many[:few]), (1 + (many >= observed).sum(axis=0)) / (1 + len(many))
    known = (ranked > 2 / (1 + len(many))) & (ranked < 0.05)
    ratios = np.log10(fitted[known] / ranked[known])
    middle, spread = np.median(ratios), np.std(ratios)
    print(f"  p-values below 0.05, fitted over ranked, in decades: median {middle:.2f}, sd {spread:.2f}")
    location, scale = fit_gumbel(np.log(many[:few]))
    for level in (0.05, 0.01, 0.001):
        share = (many[few:] >= np.exp(gumbel_r.isf(level, location, scale))).mean()
        print(f"  other repetitions above the fitted {level:g} level: {share:.5f}")
    largest = np.abs(p_values(observed, many[:few]) - p_values(observed, many)).max()
    print(f"  p-values, few against many: largest difference {largest:.4f}")
    for rule in RULES:
        drawn = [(each.detectors["total"], each.unique_detectors["total"]) for each in chance.counts(0, rule, 0.04)]
        for name, part in (("few", np.array(drawn[:few])), ("many", np.array(drawn))):
            (detectors, unique), (error, unique_error) = part.mean(axis=0), part.std(axis=0, ddof=1) / len(part) ** 0.5
            print(f"  {rule}, {name}: {detectors:.2f} +/- {error:.2f}, unique {unique:.2f} +/- {unique_error:.2f}")
    for name, count in (("few", few), ("many", len(many))):
        part = many[:count]
        hochberg, yekutieli = adjust_pvalues(p_values(observed, part))
        print(f"  {name}: {(part >= 0.04).sum(axis=1).mean():.2f} units at 0.04 by chance")
        print(f"    limit {fdr_threshold(observed, part):.4f}")
        print(f"    q < 0.05: {(hochberg < 0.05).sum()} (BH), {(yekutieli < 0.05).sum()} (BY)")


if __name__ == "__main__":
    main()
