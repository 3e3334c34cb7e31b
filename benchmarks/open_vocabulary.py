"""Do words from embeddings agree with labels that are known? On the synthetic data set, and on real images.

    python -m benchmarks.open_vocabulary synthetic OUT              # about ten minutes on two cores the first time
    python -m benchmarks.open_vocabulary real OUT --concepts DATA   # EfficientNet-Lite0

`synthetic` trains a scene network, and a two-tower network on captions of other images. `real` has no model of images
and words: none comes without a download. Both also use *perfect* embeddings, made from the labels of each image: what a
function recovers if the model knows everything that is visible.

Printed for each function: the share of planted units (activation: the concept's share of the image, and noise) that get
their concept; the share of detectors whose word is the label of the run, with a 95 % interval over units; the same for
embeddings that are permuted over images; and the median rank of the label among the words.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

import netdissect
from netdissect.concepts import ConceptData
from netdissect.evaluation.open_vocabulary.embedding_source import EmbeddingSource, word_space
from netdissect.evaluation.open_vocabulary.similarity import FUNCTIONS, ImageSample, WordSpace, rank_images, word_scores
from netdissect.result import Result, concept_shares, image_means
from netdissect.training import load_two_tower, save_two_tower, train_two_tower
from netdissect.training.scene_net import DEMO, load_trained, save_trained
from netdissect.training.train import train
from netdissect.training.two_towers.captions import visible_concepts, word_of

SHARE, LEAST_IMAGES, REPLICATES = 0.3, 30, 2000
Floats = npt.NDArray[np.float64]


def scene_run(out: Path) -> tuple[Result, ConceptData]:
    """Return a run of a scene network on synthetic images."""
    data = out / "dissected"
    if not (data / "index.csv").exists():
        netdissect.write_synthetic(data, images=2000, seed=0)
    file = out / "scene.safetensors"
    if not file.exists():
        save_trained(train(DEMO), file)
    network = load_trained(file).network()
    run = netdissect.dissect(
        network,
        str(data),
        layers=["conv3", "conv4", "conv5"],
        moments=True,
        bootstrap=0,
        permutations=0,
        out=out / "run",
    )
    return run, ConceptData.open(data)


def towers(out: Path) -> EmbeddingSource:
    """Return a two-tower network that was trained on captions of other images."""
    file = out / "towers.safetensors"
    if not file.exists():
        folder = out / "captioned"
        if not (folder / "index.csv").exists():
            netdissect.write_synthetic(folder, images=4000, seed=7)
        save_two_tower(train_two_tower(ConceptData.open(folder)), file)
    return EmbeddingSource(load_two_tower(file))


def perfect_space(data: ConceptData, words: tuple[str, ...]) -> WordSpace:
    """Return embeddings that say which concepts are visible; a constant keeps images without any apart from zero."""
    visible = visible_concepts(data)
    column = [visible.names.index(word) for word in words]
    present = visible.present[:, column].astype(np.float64)
    images = np.concatenate([present, np.full((len(data), 1), 0.5)], axis=1)
    return word_space(images, np.eye(len(words), len(words) + 1), len(data), len(words))


def retrieval(space: WordSpace, present: npt.NDArray[np.bool_]) -> float:
    """Return the mean over words of the AUROC with which the similarity tells images with the concept from others."""
    found = []
    for word, of_word in enumerate(present.T):
        if LEAST_IMAGES <= of_word.sum() <= len(of_word) - LEAST_IMAGES:
            ranks = space.cosines(np.array([word]))[:, 0].argsort().argsort()[of_word].mean()
            found.append((ranks - (of_word.sum() - 1) / 2) / (~of_word).sum())
    return float(np.mean(found))


def scores(activations: Floats, space: WordSpace, name: str, rows: npt.NDArray[np.int64] | None = None) -> Floats:
    """Return the scores of units and words."""
    index, function = np.arange(len(activations)), FUNCTIONS[name]
    sample = ImageSample(activations, rank_images(activations), np.ones_like(index), index if rows is None else rows)
    return word_scores(function, function.fits(sample, function.table(space, slice(None))))


def planted(shares: Floats, seed: int = 0) -> Floats:
    """Return activations of units that follow the concepts of the columns, with noise of their standard deviation."""
    rng = np.random.default_rng(seed)
    return shares + shares.std(axis=0) * rng.normal(size=shares.shape)


def interval(agree: npt.NDArray[np.bool_], seed: int = 0) -> str:
    """Return a share with its 95 % interval, a bootstrap over units."""
    if not len(agree):
        return "-"
    drawn = np.random.default_rng(seed).choice(agree, (REPLICATES, len(agree))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{agree.mean():.2f} [{low:.2f}, {high:.2f}]"


def compare(result: Result, data: ConceptData, spaces: dict[str, WordSpace], words: tuple[str, ...]) -> None:
    """Print the agreement of all functions and embeddings."""
    index = {word: number for number, word in enumerate(words)}
    names = [word_of(name) for name in result.concepts["concept"].cast(pl.String)]
    shares = concept_shares(result, next(iter(result.layers))).astype(np.float64)
    frequent = [
        column for column, name in enumerate(names) if name in index and (shares[:, column] > 0).sum() >= LEAST_IMAGES
    ]
    truth = np.array([index[names[column]] for column in frequent])
    follows = planted(shares[:, frequent])
    print(f"{len(words)} words, {len(data):,} images, {len(frequent)} planted units")
    for origin, space in spaces.items():
        print(f"\n{origin} embeddings: AUROC of visible concepts {retrieval(space, visible_of(data, words)):.3f}")
        print(
            "function      planted             layer      detectors  word is the label    permuted  rank of the label"
        )
        for name in FUNCTIONS:
            found = interval(scores(follows, space, name).argmax(axis=1) == truth)
            for layer in result.layers:
                print(f"{name:12s}  {found:18s}  {layer:9s}", _layer(result, layer, space, name, index))
                found = ""


def visible_of(data: ConceptData, words: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Return which words are visible in which image, bool (N, W)."""
    visible = visible_concepts(data)
    return visible.present[:, [visible.names.index(word) for word in words]]


def _layer(result: Result, layer: str, space: WordSpace, name: str, index: dict[str, int]) -> str:
    units = (
        result.layer(layer).units.filter(pl.col("quantile") == result.info.config.protocol.quantiles[0]).sort("unit")
    )
    means = image_means(result, layer).astype(np.float64)
    live = np.ptp(means, axis=0) > 0
    detector = (units["iou"].to_numpy() >= result.info.min_iou(layer)) & live
    labels = np.array([index.get(word_of(label or ""), -1) for label in units["label"].cast(pl.String)])
    found = scores(means[:, live], space, name)
    of = labels[live][detector[live]]
    agree = found[detector[live]].argmax(axis=1) == of
    permuted = [
        scores(means[:, live], space, name, np.random.default_rng(seed).permutation(len(means)))[detector[live]].argmax(
            axis=1
        )
        == of
        for seed in range(20)
    ]
    ranks = 1 + (found[detector[live]] > np.take_along_axis(found[detector[live]], of[:, None], 1)).sum(axis=1)
    return f"{int(detector.sum()):9d}  {interval(agree):19s}  {np.mean(permuted):8.3f}  {np.median(ranks):17.0f}"


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", choices=["synthetic", "real"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--concepts", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.world == "synthetic":
        result, data = scene_run(asked.out)
        words = tuple(dict.fromkeys(word_of(concept.name) for concept in data.concepts))
        known = towers(asked.out).space(result, words)
        compare(result, data, {"two-tower": known, "perfect": perfect_space(data, words)}, words)
        return
    data = ConceptData.open(asked.concepts)
    result = netdissect.dissect(
        netdissect.load_network("efficientnet_lite0"), str(asked.concepts), layers=["_blocks.10", "_blocks.15"],
        moments=True, bootstrap=0, permutations=0, out=asked.out / "run",
    )  # fmt: skip
    words = tuple(dict.fromkeys(word_of(concept.name) for concept in data.concepts))
    compare(result, data, {"perfect": perfect_space(data, words)}, words)


if __name__ == "__main__":
    main()
