"""From where on the image the output of each layer comes: its axis layout and its receptive fields.

    one forward pass -> trace -> ops (a layout for each operation) -> axis_layout -> Layout and receptive field
    spatial_layout   codes (cell_codes) on a grid of cells (cell_grid), brought in order by alignment
    reduction        sums over dimensions
    branches         sums and products of maps
    layout_check     compares a layer's responses to spots (spot_probe) with the stated centers of its cells

A network declares nothing: every layout follows from the operations that it runs.
"""
