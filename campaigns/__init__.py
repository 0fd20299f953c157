"""Prepared jobs for machines with a short time limit."""
