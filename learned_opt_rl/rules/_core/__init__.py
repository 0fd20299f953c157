"""What all families share: the transformation, checks, weights and layers."""
