"""Segment images by the detectors of a finished run.

segment (segment.py) -> DetectorComposer -> segmented_data.py, block by block -> segment_scores.py
"""
