"""Activation maps of which only the active cells are kept, as those of the latents of a sparse autoencoder."""
