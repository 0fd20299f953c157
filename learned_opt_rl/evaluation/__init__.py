"""Measuring update rules: run them over seeds, keep the rows, show them."""
