"""`netdissect evaluate-bases`: a table, CSV files, JSON, and what a user gets wrong."""

import json

import numpy as np
import polars as pl

from kept_runs import kept_run

__all__ = ["kept_run"]

NETWORK = ("--network", "python:networks:build")


def test_the_command_prints_a_table_and_writes_csv_files(netdissect, kept_run, tmp_path):
    folder, embedded = kept_run.origin.folder, tmp_path / "images.npy"
    np.save(embedded, np.random.default_rng(0).normal(size=(kept_run.info.data.images, 3)))
    out = tmp_path / "bases"
    command = ("evaluate-bases", folder, *NETWORK, "--layer", "fc", "--replicates", 20)
    printed = netdissect(*command, "--embeddings", embedded, "--out", out)
    assert printed.code == 0, printed.err
    for words in ("fc", "NMSE", "purity@16", "monosemanticity", "95 %", f"Wrote {out}"):
        assert words in printed.out
    assert sorted(path.name for path in out.iterdir()) == ["bases.csv", "concepts.csv", "units.csv"]
    assert pl.read_csv(out / "bases.csv")["layer"].to_list() == ["fc"]
    answer = netdissect(*command, "--json", "--pool", "max")
    assert json.loads(answer.out).keys() == {"network", "config", "bases", "concepts", "units"}


def test_a_run_whose_network_was_made_in_python_asks_for_it(netdissect, kept_run):
    refused = netdissect("evaluate-bases", kept_run.origin.folder)
    assert refused.code == 2
    assert "--network NETWORK" in refused.err
