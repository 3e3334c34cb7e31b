"""Scores of labels that any method gave to units, and of the units of any basis.

label_files, concept_matching      files of labels; which concept of a run each label is
scores, label_metrics              activations and labels of images -> one number a unit; the list of these metrics
image_scores, generated_images     all metrics at image level; CoSy: images made for each label
unit_intervals                     confidence intervals and paired differences of methods, over units
dictionaries                       metrics of units, bases of layers and latents: netdissect.evaluate_bases
open_vocabulary                    words of any list for units, from embeddings of images and words
evaluate, sanity_checks            netdissect.evaluate, netdissect.sanity_checks
"""
