"""Train a TopK or BatchTopK sparse autoencoder on cells in memory or on disk.

Gao et al. 2024, "Scaling and evaluating sparse autoencoders": the k largest values of a cell are kept, latents that
have been inactive for long rebuild what is left (AuxK), and rows of the decoder have unit length. Bussmann et al. 2024,
"BatchTopK sparse autoencoders": as many values are kept of a whole batch, and the threshold is averaged.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.models.dictionaries.sparse_dictionary import DictionaryWeights, SparseDictionary
from netdissect.training.sparse_autoencoders.sae_config import SaeConfig

Ints = npt.NDArray[np.int64]

AUXILIARY_WEIGHT = 1 / 32  # of the error of dead latents, as in Gao et al.
DEAD_AFTER = 50  # batches without an active cell
THRESHOLD_MOMENTUM = 0.02  # share of a batch in the mean threshold of BatchTopK
WARM_UP, DECAY = 0.05, 0.3  # shares of the steps at the start and at the end


class CellScale(NamedTuple):
    """What cells are brought to zero mean and unit length by: ``(cell - mean) / length``.

    Attributes
    ----------
    mean
        float32 (U,).
    length
        Root of the mean squared distance from it.
    """

    mean: Tensor
    length: float


class DictionaryTrainer:
    """A sparse autoencoder that learns.

    Parameters
    ----------
    config
        Of the training.
    scale
        Of the cells.
    steps
        Of the whole training: they set the learning rate.
    """

    def __init__(self, config: SaeConfig, scale: CellScale, steps: int) -> None:
        self._config, self._scale, self._steps = config, scale, steps
        device = scale.mean.device
        generator = torch.Generator().manual_seed(config.train_seed)
        rows = torch.randn(config.latents, len(scale.mean), generator=generator)
        rows = (rows / rows.norm(dim=1, keepdim=True)).to(device)
        self._decoder, self._encoder = rows.clone().requires_grad_(), rows.clone().requires_grad_()
        self._decoder_bias = torch.zeros(len(scale.mean), device=device, requires_grad=True)
        self._encoder_bias = torch.zeros(config.latents, device=device, requires_grad=True)
        self._parameters = (self._encoder, self._encoder_bias, self._decoder, self._decoder_bias)
        self._optimizer = torch.optim.Adam(self._parameters, betas=(0.9, 0.99), foreach=False)
        self._idle = torch.zeros(config.latents, dtype=torch.int64, device=device)
        self._threshold = torch.zeros((), device=device)
        self.done = 0

    def step(self, cells: Tensor) -> float:
        """Take one optimizer step on cells, float32 (n, U); return their error as a share of their variance."""
        inputs = (cells - self._scale.mean) / self._scale.length
        if not self.done:
            self._fit_encoder(inputs)
        values = torch.addmm(self._encoder_bias, inputs, self._encoder.T)
        kept = self._kept(values.detach())
        codes = torch.where(kept, values, 0)
        missing = inputs - torch.addmm(self._decoder_bias, codes, self._decoder)
        error = missing.square().sum() / inputs.square().sum()
        loss = error + AUXILIARY_WEIGHT * self._auxiliary(values, missing.detach())
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            along = (self._decoder.grad * self._decoder).sum(dim=1, keepdim=True)
            self._decoder.grad -= along * self._decoder  # rows keep their length
            torch.nn.utils.clip_grad_norm_(self._parameters, 1.0, foreach=False)
            self._optimizer.step()
            self._decoder /= self._decoder.norm(dim=1, keepdim=True)
            self._idle = torch.where(kept.any(dim=0), 0, self._idle + 1)
        self.done += 1
        return float(error.detach())

    @torch.no_grad()
    def _fit_encoder(self, inputs: Tensor) -> None:
        """Scale the first encoder to the least error: k random directions overlap, and rebuild a cell too large."""
        values = inputs @ self._encoder.T
        indices = values.topk(self._config.k, dim=1).indices
        codes = torch.zeros_like(values).scatter(1, indices, values.gather(1, indices).relu())
        rebuilt = codes @ self._decoder
        self._encoder *= (inputs * rebuilt).sum() / rebuilt.square().sum()

    def _kept(self, values: Tensor) -> Tensor:
        """Return which values are active, bool (n, K)."""
        if self._config.activation == "topk":
            indices = values.topk(self._config.k, dim=1, sorted=False).indices
            chosen: Tensor = torch.zeros_like(values, dtype=torch.bool).scatter_(1, indices, True)
            return chosen & (values > 0)
        most = self._config.k * len(values)
        limit = values.flatten().topk(most, sorted=False).values.min().clamp(min=0)
        share = THRESHOLD_MOMENTUM if self.done else 1.0
        self._threshold = torch.lerp(self._threshold, limit, share)
        return values > limit if limit == 0 else values >= limit

    def _auxiliary(self, values: Tensor, missing: Tensor) -> Tensor:
        """Return the error with which dead latents rebuild what is missing, as a share of it."""
        dead = (self._idle > DEAD_AFTER).nonzero().flatten()
        if not len(dead):
            return torch.zeros((), device=values.device)
        chosen = values[:, dead]
        most = min(len(dead), max(1, len(self._scale.mean) // 2))
        indices = chosen.detach().topk(most, dim=1, sorted=False).indices
        codes = torch.zeros_like(chosen).scatter(1, indices, chosen.gather(1, indices).relu())
        left: Tensor = (missing - codes @ self._decoder[dead]).square().sum()
        return left / missing.square().sum().clamp(min=1e-12)

    def _learning_rate(self) -> float:
        share = (self.done + 1) / self._steps
        return self._config.learning_rate * min(1.0, share / WARM_UP, max((1 - share) / DECAY, 1e-3))

    def dictionary(self, source: str) -> SparseDictionary:
        """Return what was learned, for cells on their own scale; rows of the decoder have unit length."""
        mean, length = self._scale.mean.double(), self._scale.length
        encoder, encoder_bias, decoder, decoder_bias = (part.detach().double() for part in self._parameters)
        batchtopk = self._config.activation == "batchtopk"
        weights = DictionaryWeights(
            encoder.float(),
            (length * encoder_bias - encoder @ mean).float(),
            decoder.float(),
            (length * decoder_bias + mean).float(),
            (self._threshold * length).reshape(1) if batchtopk else None,
        )
        cpu = DictionaryWeights(*(None if part is None else part.cpu() for part in weights))  # type: ignore[arg-type]
        return SparseDictionary(source, cpu, None if batchtopk else self._config.k)

    def state(self) -> dict[str, Tensor]:
        """Return everything from which the training resumes; `batches` is the number of steps that are done."""
        state = {f"parameter.{i}": part.detach() for i, part in enumerate(self._parameters)}
        for i, moments in self._optimizer.state_dict()["state"].items():
            state |= {f"moment.{i}.{name}": value for name, value in moments.items()}
        return state | {"idle": self._idle, "threshold": self._threshold, "batches": torch.tensor(self.done)}

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`."""
        with torch.no_grad():
            for i, part in enumerate(self._parameters):
                part.copy_(state[f"parameter.{i}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("moment."):
                _, index, moment = name.split(".")
                moments.setdefault(int(index), {})[moment] = value
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": moments})
        self._idle, self._threshold = state["idle"].to(self._idle.device), state["threshold"].to(self._idle.device)
        self.done = int(state["batches"])


def batches(rows: Ints, config: SaeConfig, first: int, steps: int) -> Iterator[Ints]:
    """Yield the rows of the training steps from `first` on: each epoch has an order of its own.

    Parameters
    ----------
    rows
        Of the cells that are trained on.
    config
        Of the training.
    first, steps
        Steps that are done, and of the whole training.
    """
    size = min(config.batch_cells, len(rows))
    an_epoch = len(rows) // size
    epoch, order = -1, rows
    for step in range(first, steps):
        if step // an_epoch != epoch:
            epoch = step // an_epoch
            order = np.random.default_rng((config.train_seed, 1, epoch)).permutation(rows)
        start = step % an_epoch * size
        yield np.sort(order[start : start + size])


def step_count(cells: int, config: SaeConfig) -> int:
    """Return the number of training steps on so many cells."""
    return config.epochs * (cells // min(config.batch_cells, cells))
