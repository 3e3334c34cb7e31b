"""Load a network, list its layers with their layouts and receptive fields, and record activations.

    as_network(module, preprocessing), load_network(name) -> Network
    list_layers (layers, receptive_field/) -> Layer: units, map size, receptive field
    find_structure (structure/) -> stages, blocks and hidden neurons; resolve_layers (layer_patterns) chooses layers
    ActivationRecorder(network, layers)(images) -> activations of each layer

`load` reads weights by `checkpoints`; `preprocessing` reads those of torchvision, timm and transformers.
`run_module` runs a user's module and restores it, `determinism` compares repeated passes, `surgery/` ablates units.
"""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
