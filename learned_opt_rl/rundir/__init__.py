"""Run folders: atomic files, locks, checkpoints, JSON lines, provenance, progress.

The ground floor of evaluation and training. Only `checkpoint` imports jax.
"""
