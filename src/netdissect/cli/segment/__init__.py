"""`netdissect segment`: images segmented by the detectors of a finished run."""
