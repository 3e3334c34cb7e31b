"""Small networks trained on synthetic or own images, for the experiments.

scene_net.py (the network) -> train.py -> workspace.py (data, networks and runs of one folder)
task_networks.py, train_tasks.py, pretext.py     other tasks, supervised and self-supervised (task_images.py)
classification_data.py, class_names.py           labeled images of one's own
segmentation/                                     small segmenters, of synthetic or labeled images
sparse_autoencoders/                              a dictionary of a layer: `netdissect train-sae`
generators/                                       a generator of synthetic scenes with planted causes
load_trained.py                                  networks from files;  demo.py: `netdissect demo`
"""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
