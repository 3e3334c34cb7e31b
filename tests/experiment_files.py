"""Files for every experiment, all tiny: a data set, images with classes, ratings, checkpoints, networks."""

import torch

import labeled_images
from netdissect.synthetic import write_synthetic
from netdissect.training.scene_net import TrainConfig
from netdissect.training.task_images import folder_images
from netdissect.training.train_tasks import trained_task

FACTORIES = '''
import torch
from netdissect import Preprocessing

def classifier():
    """Three units, pooled, decide between three classes."""
    torch.manual_seed(0)
    pooled = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3))
    body = (torch.nn.Conv2d(3, 4, 5, stride=4), torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 3), *pooled)
    return torch.nn.Sequential(*body), Preprocessing((64, 64), (0.5,) * 3, (0.25,) * 3)

class Words:
    name, digest, preprocessing = "words", "", Preprocessing((8, 8), (0.5,) * 3, (0.25,) * 3)

    def embed_images(self, pixels):
        return pixels.mean(dim=(2, 3))

    def embed_words(self, words):
        return torch.tensor([[len(word), 1.0 + word.count("a"), 1.0 + word.count("e")] for word in words])

def flat():
    module, preprocessing = classifier()
    return torch.nn.Sequential(*module[:1], torch.nn.Flatten(), torch.nn.Linear(4 * 15 * 15, 3)), preprocessing

def generator():
    """Untrained; its planted units draw all the same."""
    from netdissect.training.generators.scene_generator import GeneratorConfig, SceneGenerator, sample_scene
    return SceneGenerator(GeneratorConfig(units=6)), sample_scene
'''
TRAIN_CONFIG = TrainConfig(
    size=64, num_images=24, held_out=8, units=(4, 6, 8), steps=1, batch_size=8, precision="float32"
)
RATINGS = """run,layer,unit,label,iou,rater,rating,time
r,conv1,0,red,0.1,ann,yes,2024-05-01T12:00:00Z
r,conv1,1,blue,0.05,ann,no,2024-05-01T12:00:01Z
r,conv5,0,car,0.2,ann,yes,2024-05-01T12:00:02Z
r,conv5,0,car,0.2,bob,no,2024-05-01T12:00:03Z
"""


def write_files(root):
    """Write them into a folder."""
    write_synthetic(root / "world", images=12, size=64)
    labeled_images.write_classes(root / "classes", count=14, side=64)
    (root / "names.txt").write_text("blue\ngreen\nred\n")
    (root / "ratings.csv").write_text(RATINGS)
    (root / "labels.csv").write_text("unit,label\n0,sky\n1,nothing at all\n2,Grass\n")
    (root / "factories_of_experiments.py").write_text(FACTORIES)
    shown = folder_images(root / "classes", 64)
    for task in ("rotation", "random"):
        trained_task(task, shown, TRAIN_CONFIG, root / "trained")
    (root / "checkpoints").mkdir()
    for step in (1, 20):
        torch.save(classifier()[0].state_dict(), root / "checkpoints" / f"step-{step}.pt")


def classifier():
    """Return the module of the factory and its preprocessing."""
    names = {}
    exec(FACTORIES, names)  # noqa: S102 - our own text
    return names["classifier"]()
