"""Bases that need no activations: rotations and permutations of a seed, and matrices in files."""

import numpy as np
import torch

from netdissect.models.dictionaries.basis import Basis, LinearBasis
from netdissect.models.dictionaries.basis_spec import BasisSpec
from netdissect.models.dictionaries.matrix_file import read_matrix
from netdissect.models.surgery.rotations import random_rotation


def make_basis(spec: BasisSpec, source: str, units: int) -> Basis:
    """Make a basis of a layer of `units` units that is not fitted.

    Raises
    ------
    ShapeError
        If its file holds something else, or a basis of another number of units.
    """
    if spec.type == "rotation":
        return LinearBasis(source, random_rotation(units, int(spec.argument)))
    if spec.type == "permutation":
        order = np.random.default_rng(int(spec.argument)).permutation(units)
        return LinearBasis(source, torch.eye(units)[torch.from_numpy(order)])
    return read_matrix(spec.argument, source, units)
