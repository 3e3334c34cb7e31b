"""Is the demo's effect real: detectors over three seeds and five rotations, beside random weights.

python -m benchmarks.demo_seeds FOLDER
"""

import sys
import time
from pathlib import Path

from netdissect import dissect
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Protocol
from netdissect.models import Network
from netdissect.models.surgery.rotations import rotated_name, with_rotations
from netdissect.result import Result
from netdissect.synthetic import training_set, write_synthetic
from netdissect.training.demo import QUANTILES
from netdissect.training.scene_net import DEMO, LAYERS, preprocessing, scene_network
from netdissect.training.train import train_on

SEEDS = range(3)
ROTATIONS = range(5)


def main(folder: Path) -> None:
    """Draw one world, and train and dissect a network for each seed."""
    if not (folder / "index.csv").exists():
        write_synthetic(folder, images=4000, size=DEMO.size, workers=2)
    data = ConceptData.open(folder)
    images, scenes = training_set(DEMO.held_out + DEMO.num_images, size=DEMO.size, seed=DEMO.data_seed)
    for seed in SEEDS:
        train_config = DEMO.model_copy(update={"seed": seed})
        trained = train_on(images, scenes, train_config)
        how = f"{trained.seconds:.0f} s of training in {trained.train_config.precision}"
        print(f"seed {seed}: accuracy {trained.accuracy:.3f}, {how}")
        network = with_rotations(trained.network(), LAYERS[-1], ROTATIONS)
        rotated = [rotated_name(LAYERS[-1], rotation) for rotation in ROTATIONS]
        start = time.perf_counter()
        tell("trained", measure(network, data, [*LAYERS, *rotated]))
        print(f"  dissecting ten layers: {time.perf_counter() - start:.0f} s")
        untrained = scene_network(train_config.units, seed=seed)
        tell("random", measure(Network("random", untrained, preprocessing(train_config.size)), data, LAYERS))


def measure(network: Network, data: ConceptData, layers: list[str] | tuple[str, ...]) -> Result:
    """Dissect at the demo's quantiles."""
    config = DissectConfig(layers=tuple(layers), protocol=Protocol(quantiles=QUANTILES), batch_size=64)
    return dissect(network, data, config=config)


def tell(name: str, result: Result) -> None:
    """Print unique detectors of each layer and quantile, by category."""
    for entry in result.detectors():
        unique = {
            category: count for category, count in entry.count.unique_detectors.items() if count and category != "total"
        }
        print(
            f"  {name:8} {entry.layer:18} {entry.quantile:5}: {entry.count.detectors['total']:3} units, "
            f"{entry.count.unique_detectors['total']:3} concepts {unique}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
