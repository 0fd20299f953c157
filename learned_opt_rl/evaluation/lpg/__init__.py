"""Analyses of the predictions that LPGs learn; see `analysis`."""
