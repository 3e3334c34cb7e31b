"""Parts of a network, rotated layers, and what its classifier gives without some units.

    linear_head     find_head -> LinearHead: a layer pooled into a final linear layer
    split           split_after -> SplitNetwork: a network in two parts, before and after a layer
    unit_ablation   unit_ablator -> UnitAblator: scores with units set to 0, by the cheapest of these
    rotations       random_rotation, rotation_powers, with_rotations: from the identity to a random basis

The weights of the network are never changed.
"""
