"""Run folders: atomic files, locks, checkpoints, rows and provenance."""
