"""The function itself: a checked syntax tree that prints and evaluates."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from learned_opt_rl.expressions._check import check, needed
from learned_opt_rl.expressions._language import (
    INPUTS,
    Assign,
    Constant,
    Expression,
    Kind,
    Memory,
    Number,
    Position,
)
from learned_opt_rl.expressions._printing import latex, text

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Function:
    r"""An update rule or a drift as an expression, valid by construction.

    Functions with equal trees are equal; positions in a source text do not count. A
    function is hashable, so it can be a static argument of ``jax.jit``.

    Attributes:
        kind: ``"optimizer"`` or ``"drift"``.
        inputs: The inputs it reads, in the order of its text.
        memory: Its memory slots; always empty for a drift.
        constants: Its named numbers, which callers may replace.
        body: Its assignments, in order.
        result: The expression it returns.
        input_positions: Where the text declares each input, if there is a text.

    Raises:
        ExpressionError: The parts do not make a valid function.

    Example:
        >>> from learned_opt_rl.expressions import parse
        >>> f = parse("drift\ninputs r, A\nconstant c = 2\nreturn c * (r - 1) * A")
        >>> f == parse(f.to_text()), f.init_constants()
        (True, {'c': 2.0})
    """

    kind: str
    inputs: tuple[str, ...]
    memory: tuple[Memory, ...]
    constants: tuple[Constant, ...]
    body: tuple[Assign, ...]
    result: Expression
    input_positions: tuple[Position, ...] = dataclasses.field(
        default=(), compare=False, repr=False
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of all memory slots."""
        return tuple(slot.name for slot in self.memory)

    def to_text(self) -> str:
        r"""Print the canonical text, without comments: ``parse(f.to_text()) == f``.

        Example:
            >>> from learned_opt_rl.expressions import parse
            >>> f = parse("optimizer\ninputs lr, g\nreturn ((lr)*(g**(2.0)))")
            >>> print(f.to_text(), end="")
            optimizer
            inputs lr, g
            return lr * g**2
        """
        return text(self)

    def to_latex(self) -> str:
        r"""Print the function as an ``aligned`` environment, without dollar signs.

        Memory slots are updated with an arrow, locals defined with an equals sign.

        Example:
            >>> from learned_opt_rl.expressions import parse
            >>> f = parse("optimizer\ninputs lr, g\nreturn lr * g / 2")
            >>> print(f.to_latex())
            \begin{aligned}
            \text{update} &= \frac{\mathrm{lr} \, g}{2}
            \end{aligned}
        """
        return latex(self)

    def init_constants(self) -> dict[str, float]:
        r"""Return the value of each constant by name, as a pytree of floats to tune.

        Example:
            >>> from learned_opt_rl.expressions import parse
            >>> f = parse("drift\ninputs A\nconstant c = -1\nreturn c * A")
            >>> f.init_constants()
            {'c': -1.0}
        """
        return {constant.name: constant.value for constant in self.constants}

    def init_memory(
        self, shape: tuple[int, ...], dtype: Any = None
    ) -> dict[str, Float[Array, "*shape"]]:
        """Return the memory of one leaf before its first step: one array per slot.

        Args:
            shape: The leaf's shape.
            dtype: The memory's dtype; float32 by default.

        Example:
            >>> from learned_opt_rl.expressions import parse
            >>> f = parse('''optimizer
            ... inputs g
            ... memory v = 1
            ... v = max(v, abs(g))
            ... return g / v''')
            >>> f.init_memory((2,))["v"].tolist()
            [1.0, 1.0]
        """
        import jax.numpy as jnp

        dtype = jnp.float32 if dtype is None else dtype
        return {slot.name: jnp.full(shape, slot.initial, dtype) for slot in self.memory}

    def evaluate(
        self,
        inputs: Mapping[str, Any],
        memory: Mapping[str, Any] | None = None,
        constants: Mapping[str, Any] | None = None,
    ) -> tuple[Float[Array, "*shape"], dict[str, Float[Array, "*shape"]]]:
        """Evaluate on one parameter leaf (or one batch of samples, for a drift).

        Pure JAX: works under ``jit``, ``vmap``, ``grad`` and ``scan``, with any
        argument traced. Arithmetic is in float32, or in the widest dtype of the
        element-wise inputs and the memory if that is wider.

        Args:
            inputs: The declared inputs, by name. Element-wise inputs (``p``, ``g``,
                ``rand``; ``r``, ``A``, ``log_r``) have the leaf's shape or are
                scalars; ``dorm`` may also have the shape of the leaf's last axis.
                The others are scalars of shape ``()``. Inputs of the kind that the
                function does not declare only set the shape.
            memory: One array of the leaf's shape per slot, from `init_memory` or the
                previous step. Optional for a function without slots.
            constants: Numbers that replace those of the text, by name; any subset.

        Returns:
            The output, of the leaf's shape (to be subtracted from the parameters,
            for an optimizer), and the memory after the step, in the dtypes given.

        Raises:
            ExpressionError: A name is missing or unknown, or a shape does not fit.

        Example:
            >>> import jax.numpy as jnp
            >>> from learned_opt_rl.expressions import parse
            >>> f = parse('''optimizer
            ... inputs g, lr
            ... memory m = momentum(0.5)
            ... return lr * m''')
            >>> g = jnp.array([1.0, -2.0])
            >>> update, memory = f.evaluate({"g": g, "lr": 0.1}, f.init_memory((2,)))
            >>> [round(u, 3) for u in update.tolist()], memory["m"].tolist()
            ([0.05, -0.1], [0.5, -1.0])
        """
        from learned_opt_rl.expressions._evaluate import evaluate

        return evaluate(self, inputs, memory or {}, constants or {})


# m_0_999 and the like are momenta of decay 0.999, as in the published functions.
MOMENTUM = re.compile(r"m_0_([0-9]{1,8})")


def function_of(
    kind: Kind,
    body: Sequence[Assign],
    result: Expression,
    constants: Mapping[str, float],
    slots: Sequence[str],
) -> Function:
    """Build a function that declares only what it reads and computes only what counts.

    Names like ``m_0_9`` are momenta, and ``slots`` are memory that starts at 0.
    """
    used, live = needed(body, result, slots)
    kept = [a for a, is_used in zip(body, used, strict=True) if is_used]
    assigned = {assignment.target for assignment in kept}
    # A slot that is read but never written stays at 0.
    still = [name for name in slots if name in live and name not in assigned]
    kept = [*(Assign(name, Number(0.0)) for name in still), *kept]
    read = sorted(live) if kind == "optimizer" else []
    momenta = [found for name in read if (found := MOMENTUM.fullmatch(name))]
    memory = [Memory(m[0], decay=float(f"0.{m[1]}")) for m in momenta]
    if momenta:
        live = live | {"g"}  # which they follow
    memory += [Memory(name) for name in slots if name in live and name not in still]
    return Function(
        kind=kind,
        inputs=tuple(name for name in INPUTS[kind] if name in live),
        memory=tuple(memory),
        constants=tuple(
            Constant(name, value) for name, value in constants.items() if name in live
        ),
        body=tuple(kept),
        result=result,
    )
