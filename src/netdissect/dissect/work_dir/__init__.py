"""The folder of an unfinished run: locks, logs, per-image files, fingerprints."""
