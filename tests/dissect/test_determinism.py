"""A network must give the same for an image each time, alone and in a batch, or the run says that it does not."""

from pathlib import Path

import pytest
import torch
from torch import nn

import networks
import strategies
from netdissect import DissectConfig, Shard, dissect, dissect_shard
from netdissect.errors import NetworkError
from netdissect.models import Network, resolve_layers
from netdissect.models.determinism import find_difference
from netdissect.report.console_tables import summary
from netdissect.report.write import report
from netdissect.result import load_result

BATCH = torch.randn(3, 3, networks.SIDE, networks.SIDE, generator=torch.Generator().manual_seed(0))


class _Drops(nn.Module):
    """Dropout whose training is left at its default."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


class _Skips(nn.Module):
    """Leaves its part out every other time, as stochastic depth that is left on does."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.runs = nn.Identity(), 0

    def forward(self, x):
        self.runs += 1
        return x if self.runs % 2 else 2 * self.part(x)


class _Own(nn.Module):
    """Draws in its own code, between modules that do not."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.out = nn.Conv2d(3, 4, 3), nn.Identity()

    def forward(self, x):
        x = self.map(x)
        return self.out(x + torch.rand_like(x))


class _SequenceFirst(nn.Module):
    """Tokens (T, B, U), normalized over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.norm, self.out = nn.Conv2d(3, 4, 8, 8), nn.Identity(), nn.Identity()
        self.inner = _OverBatch()

    def forward(self, x):
        return self.out(self.inner(self.map(x).flatten(2).permute(2, 0, 1)))


class _OverBatch(nn.Module):
    def forward(self, x):
        return x - x.mean(1, keepdim=True)


def network(module: nn.Module) -> Network:
    torch.manual_seed(0)
    return Network("net", module, networks.build().preprocessing)


def unlike(module: nn.Module, layer: str, images: torch.Tensor = BATCH):
    found = network(module)
    with found.prepared():
        return find_difference(found, resolve_layers(found, [layer]), images)


def body(*behind: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), *behind, nn.Conv2d(4, 2, 1))


@pytest.mark.parametrize("images", [BATCH, BATCH[:1]])
def test_a_network_that_repeats_itself_passes(images):
    for behind in ((nn.BatchNorm2d(4), nn.Dropout()), (nn.GroupNorm(2, 4), nn.LayerNorm(22))):
        assert unlike(body(*behind), "*", images) is None
    assert unlike(body().bfloat16(), "*", images) is None


@pytest.mark.parametrize(
    ("module", "layer", "begins"),
    [
        (_Own(), "map", None),
        (_Own(), "out", "the network's own code (_Own)"),
        (body(nn.BatchNorm2d(4, track_running_stats=False)), "0", None),
        (body(nn.BatchNorm2d(4, track_running_stats=False)), "2", "'1' (BatchNorm2d)"),
        (body(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4, track_running_stats=False))), "2", "'1.1' (BatchNorm2d)"),
        (_SequenceFirst(), "out", "'inner' (_OverBatch)"),
    ],
)
def test_the_module_is_named_at_which_differences_begin(module, layer, begins):
    found = unlike(module, layer)
    assert (found and found.module) == begins


def test_a_difference_says_of_which_passes_and_how_large():
    twice = unlike(_Own(), "out")
    assert twice.between == "two equal passes"
    assert twice.layer == "out"
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    module = body(norm)
    among = unlike(module, "1")
    assert among.between == "passes alone and in a batch"
    with torch.no_grad():
        alone, batch = norm(module[0](BATCH[:1]))[0], norm(module[0](BATCH))[0]
    expected = (alone - batch).abs().max() / max(alone.abs().max(), batch.abs().max())
    assert among.share == pytest.approx(float(expected), rel=1e-4)


def test_modules_that_run_only_sometimes_are_named():
    found = unlike(nn.Sequential(nn.Conv2d(3, 4, 3), _Skips(), nn.ReLU()), "0")
    assert found is None  # what lies before is the same each time
    found = unlike(nn.Sequential(nn.Conv2d(3, 4, 3), _Skips(), nn.ReLU()), "2")
    assert "'1" in found.module


def test_generators_are_left_alone():
    found = network(_Own())
    layers = resolve_layers(found, ["map"])
    before = torch.get_rng_state()
    with found.prepared():
        find_difference(found, layers, BATCH)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    side = networks.SIDE
    return strategies.write_broden(tmp_path / "broden", networks.images(), networks.COVERAGE, image=(side, side))


UNTRACKED = nn.BatchNorm2d(5, track_running_stats=False)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_run_stops_before_it_begins_or_records_what_was_accepted(data, tmp_path, sharded):
    found, run = networks.build(head=UNTRACKED), tmp_path / "run"
    config = DissectConfig(layers=("wide", "deep_relu"))

    def work(config: DissectConfig) -> None:
        if sharded:
            dissect_shard(found, data, config=config, shard=Shard(1, 1), out=run)
        else:
            dissect(found, data, config=config, out=run)

    with pytest.raises(NetworkError, match=r"layer 'deep_relu' differs .* begins in 'deep_relu' .*--allow-nondetermin"):
        work(config)
    assert not run.exists()
    with pytest.warns(UserWarning, match=r"which was accepted: between passes alone and in a batch of one image"):
        work(config.model_copy(update={"allow_nondeterministic": True}))
    if not sharded:
        assert "'deep_relu' (BatchNorm2d)" in load_result(run).info.nondeterministic
        assert "The network is nondeterministic, which was accepted" in str(summary(load_result(run)))
        report(load_result(run), tmp_path / "report")
        assert "begins in &#39;deep_relu&#39; (BatchNorm2d)" in (tmp_path / "report" / "index.html").read_text()
        assert dissect(networks.build(), data, config=config).info.nondeterministic is None
