"""Detectors in the course of a training."""
