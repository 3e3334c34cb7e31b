"""Activations that another program stored, in the place of a network: `activations:DIR`.

stored_files    .npy arrays, or shards of saev, and the list of their images
stored_network  a network whose input is the position of an image in that list
"""
