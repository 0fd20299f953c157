"""Importers of foreign code: Python proposals and the results of PySR."""
