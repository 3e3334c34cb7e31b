"""Other bases of the dissected layers.

layer_bases   with_bases: the inputs of a run with the virtual layers that its configuration asks for
cell_sample   the cells on which bases are fitted, from one pass over some of the images
basis_files   the bases of a run, kept in its folder
"""
