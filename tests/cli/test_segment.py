"""Images segmented by commands: printed, as JSON and files, and what a user gets wrong."""

import json

from PIL import Image


def test_a_data_set_and_an_image_are_segmented_by_commands(netdissect, labeled, module, tmp_path):
    data, run, network = tmp_path / "data", tmp_path / "run", f"python:{module}:red"
    netdissect("concepts", "build", f"masks:{labeled}", "--out", data, "--size", 32, "--min-images", 1)
    ran = netdissect("run", network, "--concepts", data, "--layer", "0", "--quantile", 0.1, "--out", run)
    assert ran.code == 0, ran.err
    segment = ("segment", run, data, "--network", network, "--bootstrap", 20, "--figures", 1)
    printed = netdissect(*segment, "--out", tmp_path / "out")
    assert printed.code == 0, printed.err
    assert "8 images of" in printed.out
    assert "most frequent concept" in printed.out
    assert "chosen on these images" in printed.out
    assert "8 images through" in printed.err
    found = json.loads(netdissect(*segment, "--out", tmp_path / "out", "--json").out)
    assert found["per_concept"][0].keys() >= {"concept", "iou", "iou_ci_low", "iou_ci_high"}
    best = {row["concept"]: row["iou"] for row in found["per_concept"]}
    assert best["square"] > 0.5
    assert {row["segments"] for row in found["miou"]} == {"detectors", "most frequent concept", "shuffled labels"}
    image = next((labeled / "images").iterdir())
    one = netdissect("segment", run, image, "--network", network, "--out", tmp_path / "one")
    assert one.code == 0, one.err
    with Image.open(tmp_path / "one" / "label_maps" / f"{image.stem}.png") as label_map:
        assert label_map.size == (16, 16)
    for arguments, message in (
        ((run, image), "code that a file of others names is not run"),
        ((run, tmp_path / "none"), "there is no such folder"),
        ((run, data, "--layer", "9"), "the run has no layer '9'"),
        ((run, labeled / "classes.csv", "--network", network), "cannot be read as an image"),
        ((run, data, "--figures", "many"), "--figures"),
    ):
        refused = netdissect("segment", *arguments, "--out", tmp_path / "refused")
        assert refused.code == 2
        assert message in " ".join(refused.err.split())
        assert "Traceback" not in refused.err
