"""Runs: a rule, an environment and seeds, trained and recorded as rows."""
