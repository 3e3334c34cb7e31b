"""Thresholds and labels of the highest information quality ratio, as the program of GAN Dissection (2019) chose them.

information_quality.py   the ratio, and the threshold and label of each unit
level_histograms.py      pixels of each unit between 100 thresholds, on each label: what the ratios are computed from
"""
