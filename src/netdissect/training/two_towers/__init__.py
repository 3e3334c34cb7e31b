"""A small two-tower network: images and words in one space, trained on captions made from labels.

captions            the concepts of each image of a data set, and captions drawn from them
two_tower           the network and its file
train_two_tower     its training
"""
