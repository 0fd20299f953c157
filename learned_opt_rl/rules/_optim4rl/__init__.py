"""Optim4RL's towers."""
