"""Drifts by formula, and the check of any drift."""
