"""The function itself: a checked syntax tree that prints and evaluates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from learned_opt_rl.expressions._check import check
from learned_opt_rl.expressions._latex import latex
from learned_opt_rl.expressions._nodes import (
    Assign,
    Constant,
    Expression,
    Memory,
    Position,
)
from learned_opt_rl.expressions._printer import text

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Function:
    r"""A closed-form update rule or drift, valid by construction.

    Equal functions have equal trees; positions in a source text do not count. It
    is hashable, so it can be a static argument of ``jax.jit``.

    Attributes:
        kind: ``"optimizer"`` or ``"drift"``.
        inputs: The inputs it reads, in the order of its text.
        memory: Its slots of memory; always empty for a drift.
        constants: Its named numbers, which may be tuned from outside.
        body: Its assignments, in order.
        result: What it returns.
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
        """Raise `ExpressionError` unless the parts make a valid function."""
        check(self)

    def to_text(self) -> str:
        r"""The canonical text, without comments: ``parse(f.to_text()) == f``.

        Returns:
            The text, ending in a line break.

        Example:
            >>> from learned_opt_rl.expressions import parse
            >>> f = parse("optimizer\ninputs lr, g\nreturn ((lr)*(g^(2.0)))")
            >>> print(f.to_text(), end="")
            optimizer
            inputs lr, g
            return lr * g^2
        """
        return text(self)

    def to_latex(self) -> str:
        r"""The function as LaTeX, for a card or a page.

        Memory slots are updated with an arrow, locals defined with an equals sign.

        Returns:
            An ``aligned`` environment, without dollar signs.

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
        r"""The constants of the text, as a pytree of floats to tune.

        Returns:
            The value of each constant, by name.

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
        """The memory of one leaf before its first step.

        Args:
            shape: The leaf's shape.
            dtype: The memory's dtype; float32 by default.

        Returns:
            One array per slot, by name; empty for a drift.

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
        from learned_opt_rl.expressions import _evaluate

        return _evaluate.init_memory(self, shape, dtype)

    def evaluate(
        self,
        inputs: Mapping[str, Any],
        memory: Mapping[str, Any] | None = None,
        constants: Mapping[str, Any] | None = None,
    ) -> tuple[Float[Array, "*shape"], dict[str, Float[Array, "*shape"]]]:
        """Evaluate on one parameter leaf (or one batch of samples, for a drift).

        Pure JAX: works under ``jit``, ``vmap``, ``grad`` and ``scan``, with any
        argument traced. Arithmetic is in float32, or in the widest dtype of the
        element-wise inputs and the memory where that is wider.

        Args:
            inputs: The declared inputs, by name. Element-wise ones (``p``, ``g``,
                ``rand``; ``r``, ``A``, ``log_r``) have the leaf's shape or are
                scalars; ``dorm`` may also have the shape of the leaf's last axis.
                The others are scalars of shape ``()``. Inputs of the kind that the
                function does not declare are not read, but still tell the shape.
            memory: One array of the leaf's shape per slot, from `init_memory` or the
                step before. May be left out where there are no slots.
            constants: Numbers or arrays of shape ``()`` that replace those of the
                text, by name; any subset.

        Returns:
            The output, of the leaf's shape (to be subtracted from the parameters,
            for an optimiser), and the memory after the step, in the dtypes given.

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
        from learned_opt_rl.expressions import _evaluate

        return _evaluate.evaluate(self, inputs, memory or {}, constants or {})
