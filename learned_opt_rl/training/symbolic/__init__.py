"""Symbolic distillation: from a trained network to a formula."""

from learned_opt_rl.training.symbolic.config import SymbolicConfig as SymbolicConfig
from learned_opt_rl.training.symbolic.config import configure as configure
from learned_opt_rl.training.symbolic.search import Symbolic as Symbolic
