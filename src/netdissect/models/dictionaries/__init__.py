"""Bases of a layer: other units made of its own, cell by cell.

    basis        Basis, what every basis can do; LinearBasis; encode_maps, save_basis, load_basis
    components   component_basis, permutation_basis: principal and independent components, a random order
    matrix_file  read_matrix: a linear basis from a file
    sparse_dictionary  SparseDictionary: the latents of a sparse autoencoder
    dictionary_files   read_dictionary: its files (foreign_dictionaries: those of overcomplete and saev);
                       stored_dictionary finds what an encoder expects by what it rebuilds

`Network.bases` names them; `ActivationRecorder` computes their units in the forward pass of the layer.
"""
