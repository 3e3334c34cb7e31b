"""Interventions: ablate or insert units of a generator, and measure what appears and disappears.

intervene.py            intervene(run, config) -> Intervention
change_units.py         the same of a generator, a segmenter and samples that are open
unit_choice.py          the units, random sets of equal size and sets of equal activation
ace.py, ace_cells.py    strengths of all units, optimized, and the cells on which they are
areas.py                area of each concept in the output, for each sample and each set of units
intervention_files.py   the JSON of an intervention, which a report and a figure read
"""
