"""Update rules and drifts as expressions: text, checked, evaluated in JAX.

A function is a text of one statement per line, in Python's syntax. Python's own parser
(``ast``) reads it, an allow-list checks every node, and JAX evaluates it operation by
operation. Nothing is ever executed as Python, so a text from anyone can be loaded. Only
evaluation imports jax.

.. code-block:: text

    # Discovered Optimizer 1, section 6 of the paper.
    optimizer
    inputs g, dorm, t_p, b_p, l_p
    memory v1 = 0
    memory v2 = 0
    constant m = 0.9
    v1 = m * v1 + (1 - m) * g
    v2 = clip(m * v2 + (1 - m) * g**2, 1e-8, 1)
    s = sqrt((1 - t_p) * (1 + b_p)) * (1 + l_p)
    return v1 * s * (1 + log(1 + dorm)) / (1 + v2)

**Statements.** The first is ``optimizer`` or ``drift``. ``inputs`` lists the inputs.
``memory v = 0`` is a float per parameter that starts at the number; an assignment to
it sets its next value, which later lines read. ``memory m = momentum(0.9)`` follows
``0.9 * m + 0.1 * g`` before the first line runs. ``constant`` names a number that
callers may replace. Other assignments name parts. ``return`` ends the text; the output
of an optimizer is subtracted from the parameters.

**Inputs.** An optimizer may read, per parameter, ``p`` (the parameter), ``g`` (its
gradient), ``dorm`` (dormancy of its neuron) and ``rand`` (standard normal noise); and
one value for all parameters of ``t_p``, ``b_p``, ``l_p`` (training, batch and layer
proportion), ``lr`` and ``iteration`` (from 1). A drift may read, per sample, ``r``
(probability ratio), ``log_r`` and ``A`` (advantage).

**Expressions.** ``+ - * / **``, comparisons, ``and``, ``or``, ``not``, with Python's
precedence. Per element: ``sin cos tan sinh cosh tanh``, their inverses ``arcsin`` to
``arctanh`` and ``arctan2(y, x)``, ``exp expm1 log log1p log2 log10 sqrt rsqrt cbrt
square abs sign floor ceil round relu sigmoid softplus silu elu gelu leaky_relu erf erfc
gamma_function stop_gradient``, ``hypot(a, b)``, ``mod(a, b)`` and ``floor_divide(a,
b)``, which round down as in Python, ``min`` and ``max`` of two or more, ``clip(x, low,
high)``, ``nan_to_num(x, nan, above, below)`` of one to four arguments, ``isnan``,
``isfinite``, ``where(condition, a, b)``. Over a whole tensor, in an optimizer: ``norm``
(Euclidean) ``mean sum variance std median max_all min_all size`` give one number, and
``rms_normalize(x)`` is ``x * rsqrt(1e-5 + mean(x**2))``. The normalized log feature of
OPEN is ``rms_normalize(log(abs(g) + 1e-13))``.

**Types.** A value is a condition or a number, and one per element or one for all.
Conditions and numbers do not mix. One value for all is broadcast as needed.

**NaN and derivatives** follow plain JAX: ``sqrt(-1)`` is NaN, and ``where`` evaluates
both branches. To keep the derivative of an unselected branch from being NaN, guard its
argument too: ``where(x > 0, sqrt(where(x > 0, x, 1)), 0)``. ``norm`` does this itself.

**Limits.** 16384 characters, 2048 operations and operands, 64 levels, 32 memory slots,
numbers up to 1e12. Any text is read, printed and checked in well under a second.
"""

from learned_opt_rl.errors import ExpressionError as ExpressionError
from learned_opt_rl.expressions._function import Function as Function
from learned_opt_rl.expressions._language import Limits as Limits
from learned_opt_rl.expressions._rewrite import fold as fold
from learned_opt_rl.expressions._rewrite import inline as inline
from learned_opt_rl.expressions._rewrite import lift as lift
from learned_opt_rl.expressions._rewrite import simpler as simpler
from learned_opt_rl.expressions._rewrite import size as size
from learned_opt_rl.expressions._text import parse as parse
from learned_opt_rl.expressions.convert.pysr import from_pysr as from_pysr
from learned_opt_rl.expressions.convert.python import from_python as from_python
