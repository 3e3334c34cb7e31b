"""Sparse autoencoders in the folders of SAELens: ``cfg.json`` says how ``sae_weights.safetensors`` encodes.

Every architecture that is read becomes k, or one threshold for each latent. A gated encoder has such thresholds
(Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse autoencoders"): of z = x W, a latent has
the magnitude exp(r) z + b_mag and is open where z + b_gate > 0: where its magnitude exceeds b_mag - exp(r) b_gate.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
from pydantic import BaseModel, Field, ValidationError

from netdissect.errors import CheckpointError
from netdissect.models.checkpoint_file import State
from netdissect.models.dictionaries.sparse_dictionary import DictionaryWeights, Normalization
from netdissect.models.dictionaries.stored_dictionary import (
    Convention,
    Orientation,
    StoredDictionary,
    check_shapes,
    oriented_weights,
)
from netdissect.paths import check_regular

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
PLAIN = ("W_enc", "b_enc", "W_dec", "b_dec")
SCALING = "scaling_factor"
TENSORS: Mapping[str, tuple[str, ...]] = {
    "standard": PLAIN,
    "topk": PLAIN,
    "jumprelu": (*PLAIN, "threshold"),
    "gated": ("W_enc", "b_mag", "W_dec", "b_dec", "b_gate", "r_mag"),
    "batchtopk": (*PLAIN, "topk_threshold"),
    "matryoshka_batchtopk": (*PLAIN, "topk_threshold"),
}
"""Tensors of each architecture: encoder, its bias, decoder, its bias, and others."""
FUNCTIONS = ("relu", "topk")
FOLDED = "expected_average_only_in"
NORMALIZED: Mapping[str, Normalization] = {
    "none": "none", FOLDED: "none", "constant_norm_rescale": "length", "layer_norm": "layer",
}  # fmt: skip
NOT_FOLDED = (
    f"Its {CONFIG} says normalize_activations = {FOLDED}, a factor that the folder does not hold: fold it into the "
    "weights (sae.fold_activation_norm_scaling_factor(FACTOR) in SAELens) and save the folder again."
)
EXPECTED = f"Expected a folder of SAELens: {CONFIG} and {WEIGHTS}, as its save_inference_model writes them"
MOST_TEXT = 1 << 20


class _SaelensMetadata(BaseModel):
    hook_name: str | None = None


class _SaelensConfig(BaseModel):
    """What is read of ``cfg.json`` of any version; before version 6 the layer was not in ``metadata``."""

    architecture: str = "standard"
    activation_fn: str | None = None
    activation_fn_str: str | None = None
    activation_fn_kwargs: dict[str, Any] = Field(default_factory=dict)
    k: float | None = None
    rescale_acts_by_decoder_norm: bool = False
    apply_b_dec_to_input: bool = True
    normalize_activations: str | bool | None = None
    hook_name: str | None = None
    hook_point: str | None = None
    metadata: _SaelensMetadata = Field(default_factory=_SaelensMetadata)

    @property
    def function(self) -> str:
        """The activation function."""
        return self.activation_fn or self.activation_fn_str or "relu"

    @property
    def form(self) -> str:
        """The architecture; older versions called TopK a standard one with another function."""
        return "topk" if (self.architecture, self.function) == ("standard", "topk") else self.architecture

    @property
    def normalization(self) -> str:
        """What is done to a cell before it is encoded."""
        if isinstance(self.normalize_activations, bool):
            return FOLDED if self.normalize_activations else "none"
        return self.normalize_activations or "none"

    def kept(self, path: Path) -> int | None:
        """Return k of TopK; None: of another architecture."""
        if self.form != "topk":
            return None
        k = self.k if self.k is not None else self.activation_fn_kwargs.get("k")
        if not isinstance(k, int | float) or k % 1 != 0:  # also of infinity and NaN
            raise CheckpointError(
                f"{path} says architecture = topk and k = {k}. Expected the whole number of latents that are kept on "
                'a cell, such as "k": 32.'
            )
        return int(k)


def saelens_files(path: Path) -> tuple[Path, Path] | None:
    """Return configuration and weights of a folder, or of the weights in one; None: it is another file."""
    if path.is_dir():
        return path / CONFIG, path / WEIGHTS
    config = path.with_name(CONFIG)
    return (config, path) if path.name == WEIGHTS and config.exists() else None


def read_saelens(config_path: Path, path: Path, units: int) -> StoredDictionary:
    """Read a sparse autoencoder of SAELens.

    Parameters
    ----------
    config_path, path
        Its configuration and its weights.
    units
        U of the layer.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged or of an architecture that is not read here.
    ShapeError
        If it is of another layer.
    """
    config = _read_config(config_path)
    state = _read_tensors(path, config.form, units)
    tensors = [state[name] for name in TENSORS[config.form][:4]]
    weights = oriented_weights(path, tensors, units, Orientation(encoder_by_unit=True, decoder_by_unit=False))
    weights = _with_threshold(weights, config.form, state)
    if config.rescale_acts_by_decoder_norm:
        weights = _rescaled(weights)
    said = Convention(config.apply_b_dec_to_input, NORMALIZED[config.normalization])
    hint = NOT_FOLDED if config.normalization == FOLDED else ""
    trained_on = config.metadata.hook_name or config.hook_name or config.hook_point or ""
    return StoredDictionary(path, weights, config.kept(config_path), (said,), hint, trained_on).checked()


def _with_threshold(weights: DictionaryWeights, form: str, state: State) -> DictionaryWeights:
    if form == "gated":
        scale = state["r_mag"].float().exp()
        threshold = weights.encoder_bias - scale * state["b_gate"].float()
        return weights._replace(encoder=scale[:, None] * weights.encoder, threshold=threshold)
    limit = state.get("threshold", state.get("topk_threshold"))
    return weights if limit is None else weights._replace(threshold=limit.float().reshape(-1))


def _rescaled(weights: DictionaryWeights) -> DictionaryWeights:
    """Return weights of the same cells with codes times the length of their row of the decoder, which is 1 then."""
    encoder, bias, decoder, decoder_bias, threshold = weights
    length = decoder.norm(dim=1)
    return DictionaryWeights(
        encoder * length[:, None], bias * length, decoder / length[:, None], decoder_bias, threshold
    )


def _read_config(path: Path) -> _SaelensConfig:
    try:
        check_regular(path)
        if path.stat().st_size > MOST_TEXT:
            raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes, too many for its kind. {EXPECTED}.")
        config = _SaelensConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened ({error.strerror}). {EXPECTED}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CheckpointError(f"{path} cannot be used ({where}: {first['msg']}). {EXPECTED}.") from error
    for name, value, values in (
        ("architecture", config.form, TENSORS),
        ("activation_fn", config.function, FUNCTIONS),
        ("normalize_activations", config.normalization, NORMALIZED),
    ):
        if value not in values:
            raise CheckpointError(
                f"{path} says {name} = {value}, which is not read here. Expected one of {', '.join(values)}: a latent "
                "depends on one cell, by one direction and a limit."
            )
    return config


def _read_tensors(path: Path, form: str, units: int) -> State:
    """Read the tensors of an architecture, whose shapes are checked before memory is taken."""
    names = TENSORS[form]
    try:
        check_regular(path)
        with safetensors.safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if {*names} != {*shapes} - {SCALING}:
                raise CheckpointError(
                    f"{path} holds {', '.join([*shapes][:8]) or 'nothing'}. Expected {', '.join(names)}, as {CONFIG} "
                    f"says that it is of the architecture {form}; copy both files again."
                )
            check_shapes(path, [shapes[name] for name in names[:4]], units)
            latents = shapes[names[1]]
            for name in (*names[4:], *({SCALING} & {*shapes})):
                if shapes[name] not in (latents, ()):
                    raise CheckpointError(
                        f"{path} holds {name} of shape {shapes[name]}. Expected {latents}, a number for each latent; "
                        "copy it again."
                    )
            state = {name: file.get_tensor(name) for name in shapes}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing. {EXPECTED}; complete the folder.") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a safetensors file ({error}). It may be truncated: copy it again."
        ) from error
    if SCALING in state and not (state[SCALING] == 1).all():
        raise CheckpointError(
            f"{path} holds a {SCALING} of latents that is not 1. Expected it folded into the weights: multiply the "
            "rows of W_dec by it, remove it, and save the folder again."
        )
    return state
