"""Small segmenters, trained on the synthetic data set or on labeled images.

segmentation_net    the network, its configuration and its file
frozen_encoder      a network trained for classification, in place of the half that reads the image
labeled_maps        images in memory with their label maps
augmentation        random crops around labeled pixels, random light
train_segmenter     the training, and the error on held-out images
"""
