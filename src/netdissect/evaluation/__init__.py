"""Scores of labels that any method gave to units.

label_files, concept_matching      files of labels; which concept of a run each label is
scores                             activations and labels of images -> one number for each unit
unit_intervals                     confidence intervals and paired differences of methods, over units
open_vocabulary                    words of any list for units, from embeddings of images and words
"""
