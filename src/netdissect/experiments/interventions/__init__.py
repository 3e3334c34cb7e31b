"""Interventions: ablate or insert units of a generator, and measure what appears and disappears.

intervene.py      intervene(run, concept=...) -> Intervention
change_units.py   the same of a generator, a segmenter and samples that are open
unit_choice.py    the units, random sets of equal size and sets of equal activation
areas.py          area of each concept in the output, for each sample and each set of units
"""
