"""A workspace so small that every experiment takes a moment."""

from netdissect.training import Scale
from netdissect.training.scene_net import TrainConfig

SCALE = Scale(
    name="test",
    images=24,
    train_config=TrainConfig(
        size=64, num_images=48, held_out=16, steps=4, units=(4, 6, 8, 8, 8), batch_size=16, precision="float32"
    ),
    seeds=2,
    rotations=2,
    steps=2,
    snapshots=2,
    replicates=0,
    quantiles=(0.02, 0.005),
)
