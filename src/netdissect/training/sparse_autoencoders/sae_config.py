"""What `netdissect train-sae` trains, as data: options and files are made from these fields."""

from typing import Literal

from pydantic import Field

from netdissect.config import Assumed, DeviceName, Fraction
from netdissect.config_fields import Config

SaeActivation = Literal["topk", "batchtopk"]


class SaeConfig(Config):
    """Size and training of a sparse autoencoder."""

    latents: int = Field(4096, gt=0, description="Latents of the dictionary.")
    k: int = Field(32, gt=0, description="Latents that are active on a cell: of topk on each, of batchtopk on average.")
    activation: SaeActivation = Field(
        "topk",
        description=(
            "topk: the k largest values of each cell (Gao et al. 2024). batchtopk: as many of a batch, and afterwards "
            "what is above the mean threshold of the batches (Bussmann et al. 2024)."
        ),
    )
    cells: int = Field(1_000_000, gt=0, description="Cells that are drawn from all images, about as many of each.")
    epochs: int = Field(10, gt=0, description="How often each cell is seen.")
    batch_cells: int = Field(2048, gt=0, description="Cells of a training step.")
    learning_rate: float = Field(1e-3, gt=0, description="Of Adam, after the warm-up and before the decay.")
    holdout: Fraction = Field(0.05, description="Share of the images that are not trained on: the report is of these.")
    train_seed: int = Field(0, ge=0, description="Seed of cells, held-out images, first weights and order.")
    batch_size: int = Field(16, gt=0, description="Images in one forward pass of the network.")
    device: DeviceName = Field(
        "auto",
        description="Torch device of network and training, such as cpu or cuda:1; auto: a GPU if there is one.",
    )
    assumed: Assumed = Field(default_factory=Assumed, description="What is assumed of layers that cannot be traced.")
