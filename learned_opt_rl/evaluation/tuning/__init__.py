"""Tune the settings of rules with an equal budget."""
