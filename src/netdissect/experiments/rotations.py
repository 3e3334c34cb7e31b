"""Change the basis of a layer, to ask whether single units are special or any directions would do.

    random_rotation -> with_rotations(network, layer, seeds) -> dissect

A rotation mixes units without losing anything that the layer as a whole can tell. If single units are no
more than arbitrary directions, it makes no difference to the number of detectors.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.2.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from netdissect.models import Network, resolve_layers


def random_rotation(units: int, seed: int) -> Tensor:
    """Draw a rotation uniformly from SO(units).

    Parameters
    ----------
    units
        Dimension U.
    seed
        The same seed draws the same rotation.

    Returns
    -------
    float32 (U, U)
        Orthogonal, with determinant 1.

    Notes
    -----
    The orthogonal factor of a Gaussian matrix, with the signs of the triangular factor's diagonal moved into it, is
    uniform over the orthogonal group :cite:p:`mezzadri2007generate`; negating a row where the determinant is -1
    leaves SO(U).

    Examples
    --------
    >>> q = random_rotation(5, seed=0).double()
    >>> torch.allclose(q @ q.T, torch.eye(5).double(), atol=1e-6)
    True
    """
    gaussian = np.random.default_rng(seed).standard_normal((units, units))
    q, r = np.linalg.qr(gaussian)
    q *= np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[0] *= -1
    return torch.from_numpy(q.astype(np.float32))


def with_rotations(network: Network, layer: str, seeds: Iterable[int]) -> Network:
    """Return the network with randomly rotated copies of one layer, recorded in the same forward pass.

    Parameters
    ----------
    network
        The network.
    layer
        Name of a layer.
    seeds
        One rotation for each; the copy is called ``<layer>@rotation-<seed>``.

    Raises
    ------
    LayerError
        If the network has no such layer.
    """
    units = resolve_layers(network, [layer])[0].units
    bases = {rotated_name(layer, seed): (layer, random_rotation(units, seed)) for seed in seeds}
    return replace(network, bases={**network.bases, **bases})


def rotated_name(layer: str, seed: int) -> str:
    """Return what the rotated copy of a layer is called."""
    return f"{layer}@rotation-{seed}"
