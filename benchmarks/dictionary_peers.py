"""A trained dictionary in overcomplete and saev, each run in an environment of its own, beside ours.

    git clone https://github.com/OSU-NLP-Group/saev
    python -m benchmarks.dictionary_peers lite0.safetensors CELLS.npy --saev saev --environment peers

The dictionary, of TopK or BatchTopK, is handed to overcomplete as a TopKSAE or BatchTopKSAE and to saev as a
SparseAutoencoder, in evaluation mode, on the same cells, float32 (N, U). Printed are loss (mean squared error), R2 or
NMSE, L0 and dead codes as each program defines them, and the files that both write are read back: the largest
difference of codes. overcomplete divides by the distance from the mean of all numbers, not from the mean of each unit,
so its R2 is compared with ours of that definition.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from netdissect.models.dictionaries.dictionary_files import read_dictionary
from netdissect.models.dictionaries.sparse_dictionary import SparseDictionary

PACKAGES = ("overcomplete==0.3.0", "torch==2.14.1", "beartype==0.23.1", "jaxtyping==0.3.11", "orjson==3.13.0",
            "tyro==1.0.17", "einops==0.8.2", "numpy==2.4.6", "matplotlib==3.11.2")  # fmt: skip
READ = """
    import json, sys
    import numpy as np, torch
    folder, k = sys.argv[1], int(sys.argv[2])
    cells = torch.from_numpy(np.load(folder + "/cells.npy"))
    weights = {name: torch.from_numpy(np.load(f"{folder}/{name}.npy")) for name in ("encoder", "encoder_bias",
        "decoder", "decoder_bias")}
    latents, units = weights["encoder"].shape
    threshold = None if k else torch.from_numpy(np.load(folder + "/threshold.npy")).squeeze()
"""
OVERCOMPLETE = (
    READ
    + """
    import matplotlib
    matplotlib.cm.get_cmap = matplotlib.colormaps.get_cmap  # of which it makes use when it is imported
    from overcomplete import BatchTopKSAE, TopKSAE
    from overcomplete.metrics import dead_codes, l0, r2_score
    sae = TopKSAE(units, latents, top_k=k) if k else BatchTopKSAE(units, latents)
    sae.running_threshold = threshold
    linear = sae.encoder.final_block[0]
    with torch.no_grad():  # it has no bias of the decoder: cells and rebuilt cells are without it
        linear.weight.copy_(weights["encoder"])
        linear.bias.copy_(weights["encoder_bias"] + weights["encoder"] @ weights["decoder_bias"])
        sae.dictionary._weights.copy_(weights["decoder"])
    sae.eval()
    shifted = cells - weights["decoder_bias"]
    with torch.no_grad():
        _, codes, rebuilt = sae(shifted)
    kept = {"k": torch.tensor(k)} if k else {"threshold": sae.running_threshold}
    torch.save({**sae.state_dict(), **kept}, folder + "/overcomplete.pt")
    np.save(folder + "/overcomplete.npy", codes.numpy())
    print(json.dumps({"loss": float((shifted - rebuilt).square().mean()), "r2": float(r2_score(shifted, rebuilt)),
        "l0": float(l0(codes)) * latents, "dead": int(dead_codes(codes).sum())}))
"""
)
SAEV = (
    READ
    + """
    from saev.nn import modeling, objectives
    activation = modeling.TopK(top_k=k) if k else modeling.BatchTopK()
    config = modeling.SparseAutoencoderConfig(d_model=units, d_sae=latents, activation=activation)
    sae = modeling.SparseAutoencoder(config)
    with torch.no_grad():
        sae.W_enc.copy_(weights["encoder"].T), sae.b_enc.copy_(weights["encoder_bias"])
        sae.W_dec.copy_(weights["decoder"]), sae.b_dec.copy_(weights["decoder_bias"])
        if not k:
            sae.activation.threshold.copy_(threshold)
    sae.eval()
    objective = objectives.get_objective(objectives.Matryoshka(n_prefixes=1)).eval()
    with torch.no_grad():
        loss, out = objective(sae, cells)
    rebuilt, codes = out.x_hats[:, -1].double(), out.f_x
    total = cells.double().square().sum() - cells.double().sum(0).square().sum() / len(cells)
    modeling.dump(folder + "/saev.pt", sae)
    np.save(folder + "/saev.npy", codes.numpy())
    print(json.dumps({"loss": float(loss.mse), "nmse": float((cells - rebuilt).square().sum() / total),
        "l0": float(loss.l0), "dead": int(((codes > 0).sum(0) == 0).sum())}))
"""
)


def ours(dictionary: SparseDictionary, cells: torch.Tensor) -> tuple[dict[str, float], torch.Tensor]:
    """Return the same values of our dictionary, and its codes."""
    codes = dictionary.encode(cells)
    rebuilt, exact = dictionary.decode(codes), cells.double()
    error = (exact - rebuilt.double()).square().sum()
    shifted = exact - dictionary.weights.decoder_bias.double()  # overcomplete has none
    values = {
        "loss": error / exact.numel(),
        "nmse": error / (exact - exact.mean(dim=0)).square().sum(),
        "r2 from the mean of all numbers": 1 - error / (shifted - shifted.mean()).square().sum(),
        "l0": (codes > 0).double().sum(dim=1).mean(),
        "dead": (~(codes > 0).any(dim=0)).sum(),
    }
    return {name: float(value) for name, value in values.items()}, codes


def make_environment(folder: Path, packages: Sequence[str] = PACKAGES) -> Path:
    """Return the interpreter of an environment with the packages of other programs; it takes 6 GB."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def run(python: Path, script: str, folder: Path, k: int, path: Path | None = None) -> dict[str, Any]:
    """Run a script of a peer, and return the JSON that it prints last."""
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"} | (
        {} if path is None else {"PYTHONPATH": str(path)}
    )
    command = [python, "-W", "ignore", "-c", textwrap.dedent(script), folder, str(k)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Compare the programs on one dictionary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("cells", type=Path, help=".npy, float32 (N, U)")
    parser.add_argument("--saev", type=Path, required=True, help="a checkout")
    parser.add_argument("--environment", type=Path, required=True, help="is made if it is not there")
    parser.add_argument("--most", type=int, default=4000, help="cells that take part")
    asked = parser.parse_args()
    stored = np.load(asked.cells, mmap_mode="r")
    cells = np.ascontiguousarray(stored[:: -(-len(stored) // asked.most)], np.float32)
    dictionary = read_dictionary(asked.dictionary, cells.shape[1], "layer", torch.from_numpy(cells))
    values, codes = ours(dictionary, torch.from_numpy(cells))
    form = f"{dictionary.activation}, k = {dictionary.k}"
    print(f"{len(cells):,} cells of {cells.shape[1]} units, {dictionary.units:,} latents, {form}")
    print("ours", json.dumps(values))
    python = make_environment(asked.environment)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "cells.npy", cells)
        for part, tensor in dictionary.weights._asdict().items():
            if tensor is not None:
                np.save(folder / f"{part}.npy", tensor.numpy())
        for peer, script, path in (("overcomplete", OVERCOMPLETE, None), ("saev", SAEV, asked.saev / "src")):
            print(peer, json.dumps(run(python, script, folder, dictionary.k or 0, path)))
            theirs = torch.from_numpy(np.load(folder / f"{peer}.npy"))
            shift = dictionary.weights.decoder_bias if peer == "overcomplete" else 0
            ready = torch.from_numpy(cells) - shift
            read = read_dictionary(folder / f"{peer}.pt", cells.shape[1], "layer", ready).encode(ready)
            for whose, found in (("ours", codes), ("ours, of their file", read)):
                other = int(((found > 0) != (theirs > 0)).any(dim=1).sum())
                largest = float((found - theirs).abs().amax() / theirs.amax())
                print(f"  {whose}: codes differ by {largest:.1e} of the largest, {other} cells have other latents")


if __name__ == "__main__":
    main()
