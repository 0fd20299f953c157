"""Figures of results, updates and drifts."""
