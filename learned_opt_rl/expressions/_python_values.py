"""What a Python name can stand for during conversion."""

from __future__ import annotations

import ast
import dataclasses
from collections import ChainMap
from typing import TypeAlias

from learned_opt_rl.expressions._nodes import Expression


@dataclasses.dataclass(frozen=True)
class Closure:
    """A nested function or lambda, converted anew wherever it is called."""

    definition: ast.FunctionDef | ast.Lambda
    scope: ChainMap[str, Value]


@dataclasses.dataclass(frozen=True)
class Refused:
    """An argument of the interface that the language has not."""

    reason: str


Value: TypeAlias = "Expression | tuple[Value, ...] | Closure | Refused | None"
