"""LPG's network and its checks."""
