"""Bases of a layer: other units made of its own, cell by cell.

    basis        Basis, what every basis can do; LinearBasis; encode_maps, basis_bytes, load_basis
    basis_spec   BasisSpec: how a basis is named, and the virtual layer that it makes
    fit_basis    fit_basis: principal and independent components, non-negative parts, clusters of a sample of cells
    make_basis   make_basis: rotations and permutations of a seed, and matrices in files
    sparse_dictionary  SparseDictionary: the latents of a sparse autoencoder
    dictionary_files   read_dictionary: its files (foreign_dictionaries: those of overcomplete and saev);
                       stored_dictionary finds what an encoder expects by what it rebuilds
    reconstruction_error  normalized_error: what a basis loses of the cells

`Network.bases` names them; `ActivationRecorder` computes their units in the forward pass of the layer.
"""
