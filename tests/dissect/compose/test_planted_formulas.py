"""Formulas that are planted in a network come back: the same label sets, an IoU of 1, and an established gain."""

import numpy as np
import polars as pl
import torch
from torch import nn

import netdissect
from netdissect.concepts import ConceptData, Size
from netdissect.models import Network, Preprocessing
from netdissect.scoring.formulas import Formula
from netdissect.synthetic.planted import CODES, _read, planted_dataset

SIZE = 64
PLANTED = (
    ("anvil", "or", "bell"),
    ("anvil", "and", "lid"),
    ("bell", "and-not", "rim"),
    ("anvil", "or", "bell", "or", "drum"),
    ("anvil", "and", "lid", "or", "drum"),
    ("easel", "and-not", "lid", "or", "drum"),
    ("anvil", "or", "bell", "and-not", "lid"),
    ("anvil", "or", "bell", "and", "rim"),
    ("funnel", "or", "easel", "and", "lid"),
)
SINGLE = ("crate",)


class PlantedFormulas(nn.Module):
    """Each unit is the grade of a cell where its formula is true, and else 0."""

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Return activations, float32 (B, U, cells, cells), from object, part, lot and grade of each cell."""
        fields, grades = cells[:, :2].round(), cells[:, 3].round()
        units = []
        for first, *rest in (*PLANTED, SINGLE):
            holds = has_concept(fields, first)
            for operator, name in zip(rest[::2], rest[1::2], strict=True):
                other = has_concept(fields, name)
                holds = holds | other if operator == "or" else holds & (other if operator == "and" else ~other)
            units.append(torch.where(holds, grades, 0.0))
        return torch.stack(units, dim=1)


def has_concept(fields: torch.Tensor, name: str) -> torch.Tensor:
    field, code = CODES[name]
    return fields[:, field] == code


def test_planted_formulas_of_each_kind_come_back_covering_the_same_rows(tmp_path):
    data = ConceptData.open(planted_dataset(tmp_path / "data", images=30, size=SIZE, seed=1, unlabeled=0.0))
    module = nn.Sequential(_read())
    module.add_module("units", PlantedFormulas())
    network = Network("planted", module, Preprocessing(Size(SIZE, SIZE), (0.0,) * 3, (1 / 255,) * 3))
    run = netdissect.dissect(
        network, data, layers="units", quantile=0.3, bootstrap=0, permutations=0, keep_masks=True, layout_check=False,
        assume_layout="NCHW", receptive_field="half-pixel", out=tmp_path / "run",
    )  # fmt: skip
    found = netdissect.compose(run, bootstrap=999, permutations=2, data_root=data)
    units = found.units.sort("unit")
    assert units["iou"].to_list() == [1.0] * len(units)
    number = {concept.name: concept.label_id for concept in data.concepts}
    for row, planted in zip(units.iter_rows(named=True), (*PLANTED, SINGLE), strict=True):
        expected = Formula(tuple(number[name] for name in planted[::2]), tuple(planted[1::2]))
        same_pixels(data, Formula(tuple(row["label_ids"]), tuple(row["operators"])), expected)
        assert row["length"] <= len(expected)
        assert row["optimal"]
    assert units["gain_established"].to_list() == [True] * len(PLANTED) + [False]
    null = found.permuted.group_by("unit").agg(pl.col("iou").max())
    assert null["iou"].max() < 0.5


def same_pixels(data: ConceptData, found: Formula, expected: Formula) -> None:
    """Check that two formulas are true on the same pixels of all images."""
    for image in range(len(data)):
        labels = data.labels(image)
        channels = labels.label_channels.reshape(len(labels.label_channels), -1)
        covered = []
        for formula in (found, expected):
            holds = (channels == formula.label_ids[0]).any(axis=0)
            for operator, label_id in zip(formula.operators, formula.label_ids[1:], strict=True):
                other = (channels == label_id).any(axis=0)
                holds = holds | other if operator == "or" else holds & (other if operator == "and" else ~other)
            covered.append(holds)
        assert np.array_equal(*covered)
