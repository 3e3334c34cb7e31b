"""Twenty published networks, one for each type of layout: cells of every map are where the trace says.

All of three libraries are audited by ``python -m benchmarks.layout_audit``.
"""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("timm")
pytest.importorskip("transformers")
from benchmarks import layout_audit, layout_families

SAMPLE = {
    "convolutions and pooling": ("torchvision", "alexnet@128"),
    "residuals": ("timm", "resnet10t@96"),
    "channels shuffled": ("torchvision", "shufflenet_v2_x0_5@192"),
    "branches concatenated": ("torchvision", "squeezenet1_1@128"),
    "squeeze and excitation": ("timm", "mobilenetv3_small_050@192"),
    "padding on one side": ("timm", "tf_mobilenetv3_small_minimal_100@192"),
    "units last": ("timm", "test_convnext"),
    "tokens after a class token": ("timm", "test_vit"),
    "tokens after registers": ("transformers", "dinov2_with_registers"),
    "tokens after two": ("transformers", "deit"),
    "windows": ("transformers", "swin"),
    "windows and grids": ("timm", "test_maxvit"),
    "shifted windows": ("transformers", "swinv2"),
    "padded windows": ("transformers", "vitdet"),
    "cells reordered": ("transformers", "hiera"),
    "patches unfolded": ("transformers", "mobilevit"),
    "keys at another step": ("transformers", "pvt_v2"),
    "pooling for attention": ("transformers", "poolformer"),
    "maps enlarged and added": ("transformers", "depth_anything"),
    "pieces in groups": ("timm", "efficientvit_m0"),
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", SAMPLE)
def test_of_a_published_network_no_layer_is_contradicted_and_no_map_unknown(layout: str):
    found = layout_audit.audit(layout_families.build(*SAMPLE[layout]))
    assert found["contradicted"] == []
    assert found["unknown"] == []
    assert found["counts"]["confirmed"] >= 10


def test_the_audit_names_every_family_of_timm_and_each_network_once():
    assert layout_families.missing() == []
    listed = layout_families.networks()
    assert len(set(listed)) == len(listed)
    assert {library for library, *_ in listed} == {"timm", "torchvision", "transformers"}


def test_an_interrupted_audit_resumes_after_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    audited: list[str] = []

    def run(_library: str, name: str, _seconds: float) -> dict[str, Any]:
        audited.append(name)
        if len(audited) == 3:
            raise KeyboardInterrupt
        return {"counts": {"confirmed": len(audited), "unknown": 1}}

    monkeypatch.setattr(layout_audit, "run", run)
    file = tmp_path / "audit.jsonl"
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        layout_audit.main(file, only="torchvision", seconds=1, as_table=False)
    layout_audit.main(file, only="torchvision", seconds=1, as_table=False)
    expected = [name for library, _family, name in layout_families.networks() if library == "torchvision"]
    assert audited == [*expected[:3], *expected[2:]]
    assert [json.loads(line)["network"] for line in file.read_text().splitlines()] == expected


def test_the_table_adds_up_families_and_libraries():
    lines = [
        {"library": "timm", "family": "a", "network": "a1", "counts": {"confirmed": 60, "unknown": 2}},
        {"library": "timm", "family": "a", "network": "a2", "error": "it failed"},
        {
            "library": "timm",
            "family": "b",
            "network": "b1",
            "counts": {"confirmed": 30, "contradicted": 8, "no maps": 5},
        },
    ]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in layout_audit.table(lines).splitlines()[2:]]
    assert rows == [
        ["timm **all**", "2 (1 not run)", "90", "0", "2", "8", "5", "0", "2.0"],
        ["timm a", "1 (1 not run)", "60", "0", "2", "0", "0", "0", "3.2"],
        ["timm b", "1", "30", "0", "0", "8", "5", "0", "0.0"],
    ]
