"""The scores of expressions: checks, and training in a process of its own."""
