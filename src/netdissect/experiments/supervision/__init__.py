"""Detectors of networks trained on other tasks."""
