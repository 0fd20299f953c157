"""The declarations a converted body needs."""

import re
from collections.abc import Mapping, Sequence

from learned_opt_rl.expressions._function import Function
from learned_opt_rl.expressions._liveness import needed
from learned_opt_rl.expressions._nodes import (
    Assign,
    Constant,
    Expression,
    Memory,
    Number,
)
from learned_opt_rl.expressions._vocabulary import INPUTS, Kind

_MOMENTUM = re.compile(r"m_0_([0-9]{1,8})")


def momentum_of(name: str) -> Memory | None:
    """The momentum that ``m_0_999`` and its like stand for, else ``None``."""
    digits = _MOMENTUM.fullmatch(name)
    return Memory(name, decay=float(f"0.{digits[1]}")) if digits else None


def function_of(
    kind: Kind,
    body: Sequence[Assign],
    result: Expression,
    constants: Mapping[str, float] | None = None,
    slots: Sequence[str] = (),
) -> Function:
    """Build a function that declares what it reads and computes nothing in vain.

    Args:
        kind: Its kind.
        body: Assignments; those without effect are left out.
        result: What it returns.
        constants: Names that are constants where they are read.
        slots: Names that are memory, starting at 0, where they carry anything over.
    """
    used, live = needed(body, result, slots)
    kept = [a for a, is_used in zip(body, used, strict=True) if is_used]
    assigned = {assignment.target for assignment in kept}
    # A slot that is read but never written stays at 0.
    still = [name for name in slots if name in live and name not in assigned]
    kept = [*(Assign(name, Number(0.0)) for name in still), *kept]
    momenta = [name for name in sorted(live) if kind == "optimizer"]
    memory = [slot for name in momenta if (slot := momentum_of(name))]
    memory += [Memory(s) for s in slots if s in live and s not in still]
    follows = {"g"} if any(slot.decay is not None for slot in memory) else set()
    read = live | follows
    return Function(
        kind=kind,
        inputs=tuple(name for name in INPUTS[kind] if name in read),
        memory=tuple(memory),
        constants=tuple(
            Constant(name, value)
            for name, value in (constants or {}).items()
            if name in live
        ),
        body=tuple(kept),
        result=result,
    )
