"""Long jobs that were prepared in advance, for machines that are lent for minutes."""
