"""Statistics of one run, from the counts of its layers.

passes -> layer_counts -> measurements, per_image_tables -> assemble -> tables of a layer
passes -> permutation_pass, extra_metrics -> layer_counts
"""
