"""Statistics of rows, and the tables and pages that show them."""
