"""The bases of a run, kept in its folder: every pass over its images, now or later, computes the same units.

RUN/bases/<layer>.safetensors   named by the virtual layer; its metadata hold the digest of what it was fitted to
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import quote

from netdissect.checksums import json_digest
from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import ResultError, ShapeError
from netdissect.models.dictionaries.basis import Basis, basis_bytes, basis_digest, load_basis, read_metadata
from netdissect.models.dictionaries.basis_spec import BasisSpec, parse_specs
from netdissect.models.dictionaries.dictionary_files import dictionary_paths
from netdissect.models.surgery.rotations import is_rotated_name
from netdissect.paths import writing
from netdissect.result import LayerInfo
from netdissect.result.files import BASES, digest_of_file, write_whole

MADE_OF = "made_of"


def basis_path(run: Path, name: str) -> Path:
    """Return the file of a virtual layer."""
    return run / BASES / f"{quote(name, safe='')}.safetensors"


def fit_digest(source: DissectionInputs, layer: str, spec: BasisSpec) -> str:
    """Return the SHA-256 of what a fitted basis is made of: network, images, layer, kind and sample."""
    config = source.config
    return json_digest(
        {
            "network": replace(source.network, bases={}).digest,
            "data": source.data.digest,
            "layer": layer,
            "basis": spec.name,
            "file": _file_digest(spec),
            "fit": config.basis_fit.model_dump(mode="json"),
            "forward": [config.precision, config.images_per_batch, config.device],
        }
    )


def _file_digest(spec: BasisSpec) -> str | None:
    """Return the SHA-256 of the files of a basis; None: it has none, or they cannot be read here."""
    if not spec.in_file:
        return None
    try:
        return " ".join(map(digest_of_file, dictionary_paths(Path(spec.argument))))
    except OSError:
        return None


def kept_basis(run: Path, name: str, source: str, made_of: str) -> Basis | None:
    """Return the basis that a run has fitted; None: it has none of this origin."""
    path = basis_path(run, name)
    if not path.exists() or read_metadata(path).get(MADE_OF) != made_of:
        return None
    return load_basis(path, source)


def keep_bases(run: Path, source: DissectionInputs) -> None:
    """Write the bases of the virtual layers of a run into its folder; a rotation's name says which one it is.

    Raises
    ------
    ResultError
        If the folder cannot be written.
    """
    specs = parse_specs(source.config.bases)
    for layer in source.layers:
        basis = source.network.bases.get(layer.name)
        if basis is None or is_rotated_name(layer.name):
            continue
        named = (each for each in specs if each.is_of(basis.source) and each.virtual_name(basis.source) == layer.name)
        spec = next(named, None)
        made_of = fit_digest(source, basis.source, spec) if spec is not None and spec.needs_cells else ""
        metadata, path = {MADE_OF: made_of}, basis_path(run, layer.name)
        if path.exists() and _written(path) == {"digest": basis_digest(basis), **metadata}:
            continue
        _write_basis(path, basis_bytes(basis, metadata))


def _written(path: Path) -> dict[str, str]:
    """Return digest and origin of a kept basis; empty if it cannot be read."""
    try:
        metadata = read_metadata(path)
    except ShapeError:
        return {}
    return {name: metadata.get(name, "") for name in ("digest", MADE_OF)}


def missing_bases(run: Path | None, layers: Iterable[LayerInfo]) -> list[str]:
    """Return the virtual layers of a run of which neither the name nor a file tells the basis."""
    virtual = [layer.name for layer in layers if layer.basis_of is not None and not is_rotated_name(layer.name)]
    return [name for name in virtual if run is None or not basis_path(run, name).exists()]


def kept_bases(run: Path, layers: Iterable[LayerInfo]) -> dict[str, Basis]:
    """Read the bases of the virtual layers of a run from its folder.

    Raises
    ------
    ResultError
        If a file is missing, of another layer or damaged.
    """
    found: dict[str, Basis] = {}
    for layer in layers:
        if layer.basis_of is None or is_rotated_name(layer.name):
            continue
        try:
            found[layer.name] = load_basis(basis_path(run, layer.name), layer.basis_of)
        except ShapeError as error:
            raise ResultError(
                f"the basis of layer {layer.name} of the run {run} cannot be used: {error} 'netdissect verify RUN "
                "--repair' does so."
            ) from error
    return found


def copy_bases(folders: Iterable[Path], run: Path) -> None:
    """Copy the bases that shards of a run have kept, in the shard's folder or that of its run, into another run."""
    for shard in folders:
        for path in [*(shard / BASES).glob("*.safetensors"), *(shard.parent.parent / BASES).glob("*.safetensors")]:
            target = run / BASES / path.name
            if not target.exists():
                _write_basis(target, path.read_bytes())


def _write_basis(path: Path, content: bytes) -> None:
    with writing(path.parent, "Choose a run folder on a disk with space and write access."):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, partial(_write, content))


def _write(content: bytes, file: IO[bytes]) -> None:
    file.write(content)
