"""Metrics of the units of any basis of a layer: directions, latents of sparse autoencoders, or the units themselves.

code_matrix          codes of cells, dense or sparse: active cells, leading units; the labels of these cells
logistic_probes      logistic probes of one unit for every concept, and the best unit of each
probe_scores         average precision, probe R, purity: what the best units are worth on the other images
embedding_scores     monosemanticity, clarity, redundancy: do the images of a unit look alike
labeled_cells        one pass over the images of a run: cells, their labels, values of images
measure              all of these, for the units of one layer or basis
evaluate_bases       netdissect.evaluate_bases
"""
