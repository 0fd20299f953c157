"""Artifacts: cards, weights, and one registry over bundled, plugin and remote ones.

Nothing here imports jax, and nothing is ever unpickled or executed from a file.
"""

from learned_opt_rl.artifacts.card import Card as Card
from learned_opt_rl.artifacts.registry import card as card
from learned_opt_rl.artifacts.registry import cards as cards
from learned_opt_rl.artifacts.registry import load as load
from learned_opt_rl.artifacts.weights import Artifact as Artifact
from learned_opt_rl.artifacts.weights import in_memory as in_memory
from learned_opt_rl.families import rule_module as rule_module

__all__ = ["Artifact", "Card", "card", "cards", "in_memory", "load", "rule_module"]
__dir__ = __all__.copy
