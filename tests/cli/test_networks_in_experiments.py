"""Networks as experiments name them: a name, `@` and a checkpoint, `#` and a set of weights in it."""

import torch

from netdissect.training import open_network


def test_a_set_of_weights_is_named_behind_its_checkpoint(module, tmp_path):
    states = {key: {"0.weight": torch.randn(3, 3, 3, 3), "0.bias": torch.zeros(3)} for key in ("student", "teacher")}
    torch.save(states, tmp_path / "w.pt")
    network = open_network(f"python:{module}:red@{tmp_path / 'w.pt'}#teacher")
    assert torch.equal(network.module[0].weight, states["teacher"]["0.weight"])


def test_a_file_whose_name_holds_the_sign_is_itself(module, tmp_path):
    state = {"0.weight": torch.randn(3, 3, 3, 3), "0.bias": torch.zeros(3)}
    torch.save(state, tmp_path / "w#1.pt")
    network = open_network(f"python:{module}:red@{tmp_path / 'w#1.pt'}")
    assert torch.equal(network.module[0].weight, state["0.weight"])
