"""What all families share: the transformation, checks, weights, layers and noise."""
