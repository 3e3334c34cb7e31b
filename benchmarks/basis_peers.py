"""Metrics of bases by the programs of their authors, on the same arrays as ours.

    git clone https://github.com/OSU-NLP-Group/saev
    git clone https://github.com/jim-berend/semanticlens
    git clone https://github.com/ExplainableML/sae-for-vlm
    python -m benchmarks.basis_peers CHECKOUTS --environment peers

saev fits its one-dimensional probes on the selection half, and its program of metrics scores the held-out half: losses,
the best latent of each class, average precision, and the labels of the 16 highest cells of each latent. semanticlens
gives clarity and redundancy of top images, sae-for-vlm monosemanticity. Each runs in a process of its own and writes
what it computes. Printed are the largest differences. Cells have one label each, as saev takes them; codes are drawn:
sparse ones, of which most are 0, and dense ones, in which no two are equal.
"""

import argparse
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse

from benchmarks.dictionary_peers import make_environment
from netdissect.evaluation.dictionaries.code_matrix import CellConcepts, active_cells
from netdissect.evaluation.dictionaries.embedding_scores import EmbeddingSums, TopImageList, clarity, redundancy
from netdissect.evaluation.dictionaries.logistic_probes import UnitProbes
from netdissect.evaluation.dictionaries.probe_scores import COVERED, PURITY_CELLS, heldout_scores, purity

PACKAGES = ("torch==2.14.1", "numpy==2.4.6", "scipy==1.18.0", "scikit-learn==1.9.0", "beartype==0.23.1",
            "jaxtyping==0.3.11", "orjson==3.13.0", "tyro==1.0.17", "einops==0.8.2", "cloudpickle==3.1.2",
            "psutil==7.2.2", "submitit==1.5.4", "tqdm==4.69.0")  # fmt: skip
Floats = npt.NDArray[np.floating]
IMAGES, CELLS_OF_IMAGE, LATENTS, CLASSES, SIZE = 300, 30, 64, 12, 32
SAEV = """
    import pathlib, sys, types
    import numpy as np, scipy.sparse, torch
    root = pathlib.Path(sys.argv[1])
    labels = {half: np.fromfile(root / half / "labels.bin", np.uint8) for half in ("selection", "heldout")}
    # Shards of activations are left out, and with them all networks that saev knows.
    tokens = types.SimpleNamespace(n_examples=1, content_tokens_per_example=len(labels["heldout"]))
    sys.modules["saev.data"] = types.ModuleType("saev.data")
    sys.modules["saev.data"].Metadata = types.SimpleNamespace(load=lambda path: tokens)
    import saev
    saev.data = sys.modules["saev.data"]
    import saev.disk
    from tdiscovery import metrics, probe1d
    codes = {half: scipy.sparse.load_npz(root / half / "token_acts.npz") for half in ("selection", "heldout")}
    classes = int(max(each.max() for each in labels.values())) + 1
    ready = {half: probe1d.sp_csr_to_pt(scipy.sparse.csr_matrix(each), device="cpu") for half, each in codes.items()}
    truth = {half: torch.nn.functional.one_hot(torch.from_numpy(each).long(), classes) for half, each in labels.items()}
    probe = probe1d.Sparse1DProbe(n_latents=codes["heldout"].shape[1], n_classes=classes, device="cpu")
    probe.fit(ready["selection"], truth["selection"].float())
    loss = {half: probe.loss_matrix(ready[half], truth[half].bool()).numpy() for half in codes}
    np.savez(root / "selection/probe1d_metrics.npz", loss=loss["selection"], weights=probe.coef_.numpy(),
        biases=probe.intercept_.numpy())
    saev.disk.Run = lambda path: types.SimpleNamespace(inference=path)
    metrics.worker_fn(metrics.Config(run=root, train_shards=root / "selection", test_shards=root / "heldout", max_k=16))
    np.savez(root / "saev.npz", selection_loss=loss["selection"], heldout_loss=loss["heldout"],
        **np.load(root / "heldout/probe1d_metrics__train-selection.npz"))
"""
SEMANTICLENS = """
    import importlib.util, pathlib, sys
    import numpy as np, torch
    root = pathlib.Path(sys.argv[1])
    spec = importlib.util.spec_from_file_location("scores", sys.argv[2] + "/semanticlens/scores.py")
    scores = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scores)
    embeddings = torch.from_numpy(np.load(root / "embeddings.npy"))
    examples = embeddings[torch.from_numpy(np.load(root / "top.npy"))]
    np.savez(root / "semanticlens.npz", clarity=scores.clarity_score(examples).numpy(),
        redundancy=scores.redundancy_score(examples.mean(1)).numpy())
"""
MONOSEMANTICITY = """
    import pathlib, sys, types
    import numpy as np, torch
    sys.path.insert(0, sys.argv[2])
    import metric
    root = pathlib.Path(sys.argv[1])
    torch.Tensor.cuda = lambda self: self  # the program moves each pair of images to a GPU
    (root / "parts").mkdir()
    torch.save(torch.from_numpy(np.load(root / "values.npy")), root / "parts/values_part0.pt")
    torch.save(torch.from_numpy(np.load(root / "embeddings.npy")), root / "embeddings.pt")
    metric.main(types.SimpleNamespace(embeddings_path=str(root / "embeddings.pt"), activations_dir=str(root / "parts"),
        output_subdir="out", device="cpu"))
    found = torch.load(root / "parts/out/all_neurons_scores.pth")
    np.savez(root / "monosemanticity.npz", monosemanticity=found.numpy())
"""


def drawn_labels(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw a label for each cell, of which image and neighbors share many."""
    of_image = rng.dirichlet(np.full(CLASSES, 0.3), IMAGES)
    return np.concatenate([rng.choice(CLASSES, CELLS_OF_IMAGE, p=shares) for shares in of_image]).astype(np.uint8)


def drawn_codes(rng: np.random.Generator, labels: npt.NDArray[np.uint8], *, sparse: bool) -> npt.NDArray[np.float32]:
    """Draw codes of latents that follow a label each, the later ones less; some of noise alone."""
    own = labels[:, None] == np.arange(LATENTS) % CLASSES
    strength = np.linspace(4, 0, LATENTS) * (1 - labels[:, None] / CLASSES)
    codes = rng.normal(size=(len(labels), LATENTS)) + strength * own
    return np.asarray(np.maximum(codes - 1.5, 0) if sparse else codes, np.float32)


def half_labels(labels: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]) -> CellConcepts:
    """Return the labels of some cells as concepts."""
    present = scipy.sparse.csr_array(labels[rows, None] == np.arange(CLASSES))
    every = np.ones((len(rows), 1), np.bool_)
    return CellConcepts(rows // CELLS_OF_IMAGE, present, np.zeros(CLASSES, int), every, every[:, 0])


def run(python: Path, script: str, root: Path, checkout: Path, paths: tuple[str, ...] = ()) -> dict[str, Floats]:
    """Run a script of a peer, and return the arrays that it wrote last."""
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = ":".join(str(checkout / path) for path in paths)
    before = set(root.glob("*.npz"))
    command = [python, "-W", "ignore", "-c", textwrap.dedent(script), root, checkout]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    (written,) = set(root.glob("*.npz")) - before
    with np.load(written) as arrays:
        return dict(arrays)


def probes(python: Path, checkout: Path, *, sparse: bool) -> Iterator[tuple[str, float, float, float]]:
    """Yield the name of each metric, our mean, that of saev, and the largest difference of a concept or latent."""
    rng = np.random.default_rng(0)
    labels = drawn_labels(rng)
    codes = drawn_codes(rng, labels, sparse=sparse)
    held = np.repeat(rng.permutation(IMAGES) % 2 == 1, CELLS_OF_IMAGE)
    halves = {"selection": np.flatnonzero(~held), "heldout": np.flatnonzero(held)}
    with tempfile.TemporaryDirectory() as name:
        for half, rows in halves.items():
            (Path(name) / half).mkdir()
            scipy.sparse.save_npz(Path(name) / half / "token_acts.npz", scipy.sparse.csr_matrix(codes[rows]))
            labels[rows].tofile(Path(name) / half / "labels.bin")
        paths = ("src", "contrib/trait_discovery/src")
        theirs = run(python, SAEV, Path(name), checkout, paths)
    matrices = {half: scipy.sparse.csc_array(codes[rows]) if sparse else np.asfortranarray(codes[rows])
                for half, rows in halves.items()}  # fmt: skip
    selection, heldout = (half_labels(labels, rows) for rows in halves.values())
    best = UnitProbes.of(matrices["selection"], selection).best()
    scores = heldout_scores(matrices["heldout"], heldout, best, 0, 20)
    latents, classes = theirs["selection_loss"].argmin(axis=0), np.arange(CLASSES)
    pairs = {
        "selection loss": (best.loss, theirs["selection_loss"][latents, classes]),
        "held-out loss": (scores.loss, theirs["heldout_loss"][latents, classes]),
        "average precision": (scores.average_precision, theirs["ap"]),
        f"coverage@{COVERED}": (scores.average_precision >= COVERED, theirs["ap"] > COVERED),
    }
    yield "latent of a class", 0, 0, float((best.unit != latents).sum())
    for metric, (ours, other) in pairs.items():
        yield metric, float(ours.mean()), float(other.mean()), float(np.abs(1.0 * ours - other).max())
    their_r = 1 - float(theirs["heldout_loss"][latents, classes].mean() / scores.prior_loss.mean())
    yield "probe R", scores.probe_r, their_r, abs(scores.probe_r - their_r)
    active = active_cells(matrices["heldout"]) >= PURITY_CELLS
    ours = purity(matrices["heldout"], heldout)[active]
    top = np.array([np.bincount(row, minlength=CLASSES).max() / PURITY_CELLS for row in theirs["top_labels"]])[active]
    yield f"purity@{PURITY_CELLS}", float(ours.mean()), float(top.mean()), float(np.abs(ours - top).max())


def images(python: Path, checkouts: Path) -> Iterator[tuple[str, float, float, float]]:
    """Yield the same of scores by embeddings: of semanticlens and of sae-for-vlm."""
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(IMAGES, SIZE)) + 2 * rng.normal(size=(4, SIZE))[rng.integers(4, size=IMAGES)]
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    values = (rng.normal(size=(IMAGES, LATENTS)) + embeddings @ rng.normal(size=(SIZE, LATENTS))).astype(np.float32)
    sums, top = EmbeddingSums.zeros(LATENTS, SIZE), TopImageList.empty(LATENTS)
    sums.update(values, embeddings)
    top.update(values, np.arange(IMAGES))
    with tempfile.TemporaryDirectory() as name:
        for array, content in (("embeddings", embeddings), ("values", values), ("top", top.images)):
            np.save(Path(name) / f"{array}.npy", content)
        theirs = run(python, SEMANTICLENS, Path(name), checkouts / "semanticlens")
        theirs |= run(python, MONOSEMANTICITY, Path(name), checkouts / "sae-for-vlm")
    for metric, ours in (("clarity", clarity(embeddings, top.images)), ("monosemanticity", sums.monosemanticity())):
        yield metric, float(ours.mean()), float(theirs[metric].mean()), float(np.abs(ours - theirs[metric]).max())
    mean, other = float(redundancy(embeddings, top.images).mean()), float(theirs["redundancy"])
    yield "redundancy (mean alone)", mean, other, abs(mean - other)


def main() -> None:
    """Compare all metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", type=Path, help="folder of the three checkouts")
    parser.add_argument("--environment", type=Path, required=True, help="is made if it is not there")
    asked = parser.parse_args()
    python = make_environment(asked.environment, PACKAGES)
    print("| codes | metric | netdissect | peer | largest difference |\n|---|---|---|---|---|")
    for name, sparse in (("sparse", True), ("dense", False)):
        for metric, *numbers in probes(python, asked.checkouts / "saev", sparse=sparse):
            print(f"| {name} | {metric} | {numbers[0]:.7f} | {numbers[1]:.7f} | {numbers[2]:.1e} |")
    for metric, *numbers in images(python, asked.checkouts):
        print(f"| images | {metric} | {numbers[0]:.7f} | {numbers[1]:.7f} | {numbers[2]:.1e} |")


if __name__ == "__main__":
    main()
