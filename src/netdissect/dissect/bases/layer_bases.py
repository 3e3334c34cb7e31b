"""Give a network the bases that a configuration asks for, and the run its virtual layers.

layers, bases, images -> sample of cells (one pass) -> fitted bases -> network and layers of the run
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from netdissect.config import BasisFit, Progress
from netdissect.dissect.bases.basis_files import fit_digest, kept_basis
from netdissect.dissect.bases.cell_sample import Cells, sample_cells
from netdissect.dissect.devices import torch_device
from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import ConfigError
from netdissect.models import Layer, Network
from netdissect.models.dictionaries.basis import Basis
from netdissect.models.dictionaries.basis_spec import NEURONS, BasisSpec, parse_specs
from netdissect.models.dictionaries.dictionary_files import read_dictionary
from netdissect.models.dictionaries.fit_basis import FitOptions, check_sklearn, fit_basis
from netdissect.models.dictionaries.make_basis import make_basis
from netdissect.models.dictionaries.sparse_dictionary import SparseDictionary
from netdissect.models.layers import virtual_layers
from netdissect.progress import show_line

FEW_IMAGES = 16


class _LayerBasis(NamedTuple):
    """A basis that needs a sample of cells."""

    layer: Layer
    spec: BasisSpec

    @property
    def name(self) -> str:
        return self.spec.virtual_name(self.layer.name)


def with_bases(source: DissectionInputs, run: Path | None, progress: Progress | None = None) -> DissectionInputs:
    """Return the inputs of a run with its layers in the bases that its configuration asks for.

    Parameters
    ----------
    source
        Layers of the network. One that is virtual already stays as it is, and so does a basis that the network has.
    run
        Run folder: bases that were fitted and kept there are used again. None: all are fitted.
    progress
        Called with the stage ``bases`` and the number of sampled images.

    Raises
    ------
    ConfigError
        If two bases of a layer have the same name, one is of a layer that is not dissected, a layer has none, or a
        sample is too small.
    ActivationError
        If a layer has no basis of a kind.
    ShapeError, CheckpointError
        If a file holds no basis of a layer.
    MissingExtraError
        If a basis has to be fitted and scikit-learn is not installed.
    """
    specs = parse_specs(source.config.bases)
    if specs == (BasisSpec(NEURONS, ""),):
        return source
    _check_layers(specs, source)
    bases, fits = dict(source.network.bases), list[_LayerBasis]()
    for layer in source.layers:
        for spec in (each for each in specs if each.is_of(layer.name)):
            name = spec.virtual_name(layer.name)
            if spec.type == NEURONS or layer.name in source.network.bases or name in bases:
                continue
            if not spec.needs_cells:
                bases[name] = make_basis(spec, layer.name, layer.units)
                continue
            kept = None if run is None else kept_basis(run, name, layer.name, fit_digest(source, layer.name, spec))
            if kept is None:
                fits.append(_LayerBasis(layer, spec))
            else:
                bases[name] = kept
    network = replace(source.network, bases=bases | _fitted(source, fits, progress))
    layers = [each for layer in source.layers for each in _in_bases(layer, specs, network, source.network)]
    return DissectionInputs.of(network, source.data, layers, source.config, source.execution)


def _check_layers(specs: Sequence[BasisSpec], source: DissectionInputs) -> None:
    """Refuse a basis of a layer that is not dissected, and a layer without a basis."""
    names = [layer.name for layer in source.layers if layer.name not in source.network.bases]
    for spec in specs:
        if spec.layer and spec.layer not in names:
            raise ConfigError(
                f"the basis {spec.text} is one of layer {spec.layer!r}, which is not dissected. Expected LAYER@BASIS "
                f"with one of {', '.join(names)}, or the basis alone for all of them."
            )
    for name in names:
        if not any(spec.is_of(name) for spec in specs):
            raise ConfigError(
                f"layer {name!r} has no basis: each that was asked for is one of another layer. Expected "
                f"{name}@BASIS, neurons for the units of all layers, or other layers."
            )


def _fitted(source: DissectionInputs, fits: Sequence[_LayerBasis], progress: Progress | None) -> dict[str, Basis]:
    """Fit bases on one sample of the cells of their layers."""
    if not fits:
        return {}
    if any(fit.spec.fitted for fit in fits):
        check_sklearn()  # before the pass over the images
    else:  # what an encoder expects is seen on a few images
        source = source.with_config(basis_fit=source.config.basis_fit.model_copy(update={"images": FEW_IMAGES}))
    for fit in fits:
        if fit.spec.fitted is None:  # what cannot be read is refused before the pass, too
            read_dictionary(fit.spec.argument, fit.layer.units, fit.layer.name)
        else:
            _check_components(fit.spec, fit.layer)
    layers = list({fit.layer.name: fit.layer for fit in fits}.values())
    with source.network.prepared(torch_device(source.config.device)):
        cells = sample_cells(source._replace(layers=layers), progress)
    bases: dict[str, Basis] = {}
    for fit in fits:
        show_line(progress, f"fits {fit.name} on {len(cells[fit.layer.name]):,} cells")
        bases[fit.name] = _fit(fit, cells[fit.layer.name], source.config.basis_fit)
    return bases


def _check_components(spec: BasisSpec, layer: Layer) -> None:
    if spec.fitted in ("pca", "ica") and spec.units is not None and spec.units > layer.units:
        raise ConfigError(
            f"{spec.fitted}:{spec.units} was asked for of layer {layer.name!r}, which has {layer.units} units. "
            f"Expected at most as many, or {spec.fitted} alone for as many as there are directions in which it varies."
        )


def _fit(fit: _LayerBasis, cells: Cells, options: BasisFit) -> Basis:
    """Fit a basis to cells, or read a sparse autoencoder as these cells say that its encoder expects them."""
    layer, spec = fit.layer, fit.spec
    if spec.fitted is not None:
        return fit_basis(spec.fitted, layer.name, cells, FitOptions(spec.units, options.iterations, options.seed))
    read = read_dictionary(spec.argument, layer.units, layer.name, torch.from_numpy(cells))
    # In memory of its own, as when it is read again from the run's folder: products round by where a matrix begins.
    return SparseDictionary.from_state(layer.name, {name: part.clone() for name, part in read.state().items()})


def _in_bases(layer: Layer, specs: Sequence[BasisSpec], network: Network, given: Network) -> list[Layer]:
    """Return a layer in each basis, its own units first."""
    if layer.name in given.bases:
        return [layer]
    virtual = virtual_layers(layer, network)
    of_layer = [spec for spec in specs if spec.is_of(layer.name)]
    own = [layer] if any(spec.type == NEURONS for spec in of_layer) else []
    return own + [virtual[spec.virtual_name(layer.name)] for spec in of_layer if spec.type != NEURONS]
