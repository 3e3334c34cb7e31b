"""Generators: networks whose input is a latent and whose output is an image.

as_generator(module, sampler) -> Generator (a Network)
latents.py      the latents of sample i of a seed, and how an output becomes pixels
cell_check.py   whether a change of one cell of a layer changes the output where the cell is said to be
"""
