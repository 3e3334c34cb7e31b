"""CoSy: figures against scikit-learn and scipy, folders of labels, and the network on their images."""

import re

import numpy as np
import pytest
import scipy
import sklearn.metrics
from PIL import Image

from netdissect.errors import ConceptsError
from netdissect.evaluation.generated_images import ImageFolders, compared_activations


def test_figures_are_those_of_scikit_learn_and_scipy():
    random = np.random.default_rng(0)
    images = random.normal(0.5, 1, (12, 4)).round(1).astype(np.float32)
    control = random.normal(0, 2, (80, 4)).round(1).astype(np.float32)
    found = compared_activations(images, control)
    truth = np.repeat([1, 0], [12, 80])
    for unit in range(4):
        drawn, of_run = images[:, unit].astype(float), control[:, unit].astype(float)
        test = scipy.stats.mannwhitneyu(of_run, drawn)
        expected = {
            "auroc": sklearn.metrics.roc_auc_score(truth, np.concatenate([drawn, of_run])),
            "mad": (drawn.mean() - of_run.mean()) / of_run.std(ddof=1),
            "u": test.statistic,
            "p": test.pvalue,
        }
        assert {name: values[unit] for name, values in found.items()} == pytest.approx(expected, rel=1e-9)


def test_a_unit_that_is_constant_on_the_run_has_a_mad_of_zero():
    assert compared_activations(np.ones((3, 1)), np.full((5, 1), 0.1, np.float32))["mad"] == 0


def folders(root, names):
    for name, images in names.items():
        (root / name).mkdir(parents=True)
        for index in range(images):
            Image.new("RGB", (8, 8)).save(root / name / f"{index}.png")
    return ImageFolders.of(root)


def test_a_label_has_the_folder_of_its_name_or_spelling(tmp_path):
    found = folders(tmp_path, {"Traffic_Lights": 1, "car": 2, "Car": 1, "empty": 0})
    (tmp_path / "car" / "notes.txt").write_text("")
    assert found.folder_of("traffic light") == "Traffic_Lights"
    assert found.folder_of("car") == "car"
    assert found.folder_of("cars") is None, "two folders have its spelling"
    assert found.folder_of("zebra") is None
    assert len(found.by_name["car"]) == 2
    with pytest.raises(ConceptsError, match=r"empty holds no image of the label 'empty'. Expected files that end in"):
        found.folder_of("empty")


def test_a_folder_without_folders_is_refused(tmp_path):
    with pytest.raises(
        ConceptsError, match=re.escape(f"{tmp_path} holds no folder. Expected a folder with a folder of")
    ):
        ImageFolders.of(tmp_path)
    with pytest.raises(ConceptsError, match=r"none cannot be read"):
        ImageFolders.of(tmp_path / "none")
