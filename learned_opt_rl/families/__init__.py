"""Families: one record for each algorithm, read by every other room.

To add a family, write its rule module, its record and, to train it, a preset. A plugin
puts the record, with its presets, into the attribute ``FAMILY`` of the module that it
offers; a process may also `register` one. A built-in family has a line in ``_table``.
"""

from learned_opt_rl.families._table import entry_points as entry_points
from learned_opt_rl.families._table import find as find
from learned_opt_rl.families._table import known as known
from learned_opt_rl.families._table import names as names
from learned_opt_rl.families._table import register as register
from learned_opt_rl.families._table import rule_module as rule_module
from learned_opt_rl.families.family import Citation as Citation
from learned_opt_rl.families.family import Family as Family
from learned_opt_rl.families.family import Shapes as Shapes

__all__ = [
    "Citation",
    "Family",
    "Shapes",
    "entry_points",
    "find",
    "known",
    "names",
    "register",
    "rule_module",
]
__dir__ = __all__.copy
