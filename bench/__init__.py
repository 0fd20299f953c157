"""Benchmarks: what the learned optimisers cost, measured beside Adam in one run."""
