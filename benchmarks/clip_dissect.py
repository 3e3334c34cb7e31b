"""Our similarity functions beside CLIP-Dissect's own, run from a checkout of it, on drawn embeddings.

    git clone https://github.com/Trustworthy-ML-Lab/CLIP-dissect
    python -m benchmarks.clip_dissect CLIP-dissect

Prints, for each function, the largest difference of scores as a share of the largest score, and how many units get
another word. Its rank reorder divides by the error of five random orders of the images, ours by the expectation: the
ratio of the two is printed for it, which must be one number for all words of a unit.
"""

import argparse
import contextlib
import io
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from netdissect.evaluation.open_vocabulary.similarity import FUNCTIONS, ImageSample, WordSpace, rank_images, word_scores

THEIRS = {
    "soft-wpmi": "soft_wpmi", "wpmi": "wpmi", "rank-reorder": "rank_reorder", "cos-cubed": "cos_similarity_cubed",
}  # fmt: skip


def drawn(images: int, units: int, words: int, seed: int) -> tuple[np.ndarray, WordSpace]:
    """Draw activations of which each unit follows a word, and embeddings whose cosines are about 0.2, as of CLIP."""
    rng = np.random.default_rng(seed)
    of_images, of_words = rng.normal(size=(images, 64)) + 0.5, rng.normal(size=(words, 64)) + 0.5
    space = WordSpace(*(part / np.linalg.norm(part, axis=1, keepdims=True) for part in (of_images, of_words)))
    follows = space.cosines(slice(0, units)) * 20 + rng.normal(size=(images, units))
    return np.maximum(follows, 0).astype(np.float64), space


def main() -> None:
    """Compare all functions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--words", type=int, default=1500)
    asked = parser.parse_args()
    sys.path.insert(0, str(asked.checkout))
    import similarity as theirs

    activations, space = drawn(asked.images, asked.units, asked.words, 0)
    index = np.arange(asked.images)
    sample = ImageSample(activations, rank_images(activations), np.ones_like(index), index)
    print("function      precision of theirs  largest difference  other words")
    for name, function in FUNCTIONS.items():
        ours = word_scores(function, function.fits(sample, function.table(space, slice(None))))
        for precision in (torch.float64, torch.float32):
            found = _their_scores(theirs, THEIRS[name], activations, space, precision)
            compared = ours
            note = ""
            if name == "rank-reorder":
                undefined = ~np.isfinite(found)  # a negative mean P, whose root does not exist
                ratio = np.where(undefined, np.nan, found) / np.where(undefined, np.nan, ours)
                spread = float(
                    np.nanmax((np.nanmax(ratio, axis=1) - np.nanmin(ratio, axis=1)) / np.nanmean(ratio, axis=1))
                )
                compared = ours * np.nanmean(ratio, axis=1, keepdims=True)
                same = bool((undefined == np.isneginf(ours)).all())
                note = (
                    f"  ratio {np.nanmean(ratio):.3f}, spread over words {spread:.1e}; NaN where ours is -inf: {same}"
                )
            defined = np.isfinite(found) & np.isfinite(ours)
            difference = np.abs(found - compared)[defined].max() / np.abs(ours[defined]).max()
            found = np.where(np.isnan(found), -np.inf, found)
            other = int((found.argmax(axis=1) != ours.argmax(axis=1)).sum())
            print(f"{name:12s}  {str(precision)[6:]:20s} {difference:18.1e}  {other:11d}{note}")


def _their_scores(
    theirs: ModuleType, name: str, activations: np.ndarray, space: WordSpace, precision: torch.dtype
) -> np.ndarray:
    torch.manual_seed(0)
    torch.set_default_dtype(precision)  # of its constants
    similar = torch.from_numpy(space.images).to(precision) @ torch.from_numpy(space.words).to(precision).T
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        scores = getattr(theirs, name)(similar, torch.from_numpy(activations).to(precision), device="cpu")
    return scores.double().numpy()


if __name__ == "__main__":
    main()
