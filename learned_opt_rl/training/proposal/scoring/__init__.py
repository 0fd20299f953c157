"""The scores of formulas: checks, and training in a process of its own."""
