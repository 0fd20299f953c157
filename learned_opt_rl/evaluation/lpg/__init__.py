"""Analyses of LPG's update rules."""
