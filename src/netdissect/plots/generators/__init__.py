"""Figures of generators: intervention.py draws what units that are changed do, with controls."""
