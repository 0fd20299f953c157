"""LPG's network and the checks of its inputs."""
