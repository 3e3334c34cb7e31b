"""Hold the unification of names against the assignment that a later version of Broden made of thousands of raw labels.

    python benchmarks/unification.py shared/reference/broden-label-assignment.csv shared/reference/broden1/label.csv

Two raw labels of one category are a merged pair when they are one concept. Precision: which of our pairs are theirs.
Recall: which of theirs are ours. That table says nothing of how frequent a raw label is, and claims go by frequency:
the frequency of the most similar published label stands in (the one that shares most names), zero if there is none.

Scenes are told apart: the later version assigned them to 365 places by what they look like ("bunk bed" to "youth
hostel"), which no rule about names repeats.
"""

import argparse
import csv
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from netdissect.concepts.build.synonyms import SynonymTable, split_names
from netdissect.concepts.build.vocabulary import Census, LabelCount, unify

Pair = tuple[int, int]
Published = dict[str, list[tuple[frozenset[str], int]]]
"""By name, the names and the frequency of each published label that has it."""


@dataclass(frozen=True)
class RawLabel:
    """A row of the table."""

    source: str
    category: str
    key: str
    theirs: str


@dataclass(frozen=True)
class Agreement:
    """Merged pairs of raw labels."""

    labels: list[RawLabel]
    ours: set[Pair]
    theirs: set[Pair]

    @property
    def precision(self) -> float:
        """Share of our pairs that are theirs."""
        return len(self.ours & self.theirs) / len(self.ours)

    @property
    def recall(self) -> float:
        """Share of their pairs that are ours."""
        return len(self.ours & self.theirs) / len(self.theirs)


def read_labels(path: Path) -> list[RawLabel]:
    """Read the table; ``theirs`` is empty for a label that was left out there."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = []
    for row in rows:
        key = ";".join(split_names(row["raw_name"], row["category"]))
        if key and key != "-":
            theirs = row["broden_name"] if row["broden_label"] != "0" else ""
            labels.append(RawLabel(row["dataset"], row["category"], key, theirs))
    return labels


def read_frequencies(path: Path) -> Published:
    """Read the published labels: by name, the names and the frequency of each label that has it."""
    by_name: Published = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            names = frozenset({row["name"], *filter(None, row["syns"].split(";"))})
            for name in names:
                by_name[name].append((names, int(row["frequency"])))
    return by_name


def stand_in(key: str, published: Published) -> int:
    """Return the frequency of the published label that shares most names with `key`, and at least a third of them."""
    names = set(key.split(";"))
    likeness = [
        (len(names & known) / len(names | known), frequency)
        for name in names
        for known, frequency in published.get(name, ())
    ]
    best, frequency = max(likeness, default=(0.0, 0))
    return frequency if 3 * best >= 1 else 0


def claim(labels: list[RawLabel], published: Published, *, variants: bool) -> SynonymTable:
    """Unify all labels together."""
    sources: dict[str, Census] = defaultdict(Census)
    for label in labels:
        count = LabelCount(stand_in(label.key, published))
        sources[label.source].counts[label.key].setdefault(label.category, count)
    return unify(sources, variants=variants)


def compare_synonyms(labels: list[RawLabel], published: Published) -> tuple[float, float]:
    """Return precision and recall of pairs of names that are one concept in the published Broden of 2017.

    Only names that both know count: the published table leaves out rare labels and their names.
    """
    claimed = claim(labels, published, variants=False).synonyms
    ours = {name: concept for concept, others in claimed.items() for name in (concept, *others)}
    theirs = {name: min(names) for name, entries in published.items() for names, _ in entries}
    groups: tuple[dict[str, list[str]], dict[str, list[str]]] = defaultdict(list), defaultdict(list)
    for name in sorted(ours.keys() & theirs.keys()):
        groups[0][ours[name]].append(name)
        groups[1][theirs[name]].append(name)
    mine, yours = ({pair for group in side.values() for pair in combinations(group, 2)} for side in groups)
    return len(mine & yours) / len(mine), len(mine & yours) / len(yours)


def compare(
    labels: list[RawLabel],
    published: Published,
    *,
    scenes: bool = False,
    left_out: bool = False,
) -> Agreement:
    """Unify all labels together and count merged pairs.

    With `left_out`, pairs count as wrong, too, that join a label which was left out there with one that was not.
    """
    names = claim(labels, published, variants=True)
    concept = {(raw.source, raw.category, raw.key): name for raw, name in names.concepts.items()}
    ours: dict[tuple[str, str], list[int]] = defaultdict(list)
    theirs: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, label in enumerate(labels):
        if (label.category == "scene") != scenes:
            continue
        if label.theirs:
            theirs[label.category, label.theirs].append(number)
        if label.theirs or left_out:
            ours[label.category, concept[label.source, label.category, label.key]].append(number)
    mine = {pair for group in ours.values() for pair in combinations(group, 2)}
    if left_out:
        mine = {(a, b) for a, b in mine if labels[a].theirs or labels[b].theirs}
    return Agreement(labels, mine, {pair for group in theirs.values() for pair in combinations(group, 2)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("assignment", type=Path)
    parser.add_argument("published", type=Path)
    told = parser.parse_args()
    labels, published = read_labels(told.assignment), read_frequencies(told.published)
    found = compare(labels, published)
    for what, one in (
        ("objects, parts, materials", found),
        ("the same, no frequencies", compare(labels, {})),
        ("with labels left out there", compare(labels, published, left_out=True)),
        ("scenes", compare(labels, published, scenes=True)),
    ):
        ratio = f"precision {one.precision:.3f} recall {one.recall:.3f}" if one.ours else "no pair of ours, recall 0"
        print(f"{what:28} {ratio} (pairs: ours {len(one.ours)}, theirs {len(one.theirs)})")
    precision, recall = compare_synonyms(labels, published)
    print(f"{'synonyms published in 2017':28} precision {precision:.3f} recall {recall:.3f}")
    for what, pairs in (("merged here alone", found.ours - found.theirs), ("there alone", found.theirs - found.ours)):
        print(f"\n{what}:")
        for a, b in sorted(pairs):
            print("  ", *(f"{x.source} {x.category} {x.key[:44]!r} -> {x.theirs!r};" for x in (labels[a], labels[b])))


if __name__ == "__main__":
    main()
