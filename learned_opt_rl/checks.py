"""Check arguments, and suggest names for misspelled ones.

Standard library only: every room may import this module, those without jax too.
"""

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any

_LISTED = 20
"""Names that an error message still lists in full; a longer list hides the message."""


def positive_int(
    name: str, value: Any, fix: str = "", *, whole_floats: bool = False
) -> int:
    """Return a positive whole number as an ``int``, or raise.

    Args:
        name: The argument's name, for the message.
        value: Any integer type, numpy's too; ``True`` and ``False`` are refused.
        fix: What to do instead, an imperative, for the message.
        whole_floats: Accept floats without a fraction, such as ``1e7``.

    Raises:
        ValueError: The value is not a positive whole number.

    Example:
        >>> positive_int("num_steps", 1e7, whole_floats=True)
        10000000
        >>> positive_int("epochs", 0, "give at least 1")
        Traceback (most recent call last):
            ...
        ValueError: epochs=0 must be a positive whole number; give at least 1
    """
    accepted = numbers.Real if whole_floats else numbers.Integral
    is_number = isinstance(value, accepted) and not isinstance(value, bool)
    number: Any = value  # The abstract number types have no operators.
    # NaN fails the first comparison and infinity the second.
    if not is_number or not number > 0 or number % 1 != 0:
        end = f"; {fix}" if fix else ""
        raise ValueError(f"{name}={value!r} must be a positive whole number{end}")
    return int(number)


def finite(
    name: str,
    value: Any,
    fix: str = "",
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """Return a finite number within bounds as a ``float``, or raise.

    Args:
        name: The argument's name, for the message.
        value: Any real type, numpy's too; ``True`` and ``False`` are refused.
        fix: What to do instead, an imperative, for the message.
        above: A bound that the number must exceed.
        least: The smallest number allowed.
        most: The largest number allowed.
        below: A bound that the number must stay below.

    Raises:
        ValueError: The value is not a number, not finite or out of bounds.

    Example:
        >>> finite("gamma", 1.5, "give for example 0.99", least=0, most=1)
        Traceback (most recent call last):
            ...
        ValueError: gamma=1.5 must be a number >= 0, <= 1; give for example 0.99
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan
    holds = (
        math.isfinite(number)
        and (above is None or number > above)
        and (least is None or number >= least)
        and (most is None or number <= most)
        and (below is None or number < below)
    )
    if not holds:
        bounds = ((">", above), (">=", least), ("<=", most), ("<", below))
        said = ", ".join(f"{sign} {x:g}" for sign, x in bounds if x is not None)
        accepted = f"a number {said}" if said else "a finite number"
        end = f"; {fix}" if fix else ""
        raise ValueError(f"{name}={value!r} must be {accepted}{end}")
    return number


def as_names(value: str | Iterable[str]) -> tuple[str, ...]:
    """Return a tuple of names; a text is one name.

    Example:
        >>> as_names("adam"), as_names(["adam", "lion"])
        (('adam',), ('adam', 'lion'))
    """
    return (value,) if isinstance(value, str) else tuple(value)


def one_of(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise ValueError unless the value is one of the choices.

    Example:
        >>> one_of("agent", "pppo", ["ppo", "a2c"])
        Traceback (most recent call last):
            ...
        ValueError: agent='pppo' must be one of ppo, a2c; did you mean 'ppo'?
    """
    choices = tuple(choices)
    if value not in choices:
        end = f"; {suggest(value, choices)}" if nearest(value, choices) else ""
        raise ValueError(f"{name}={value!r} must be one of {', '.join(choices)}{end}")


def nearest(name: object, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names most like ``name``, best first, ignoring case.

    Example:
        >>> nearest("Breakout-Minatr", ["Breakout-MinAtar", "ant"])
        ['Breakout-MinAtar']
    """
    folded = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(str(name).casefold(), folded, count)
    return [folded[one] for one in near]


def suggest(name: object, known: Iterable[str]) -> str:
    """Return the last clause of an error message about an unknown name.

    Returns:
        The most similar names; where there is none, all names or, of many, their
        number.

    Example:
        >>> suggest("gama", ["gamma", "epochs"])
        "did you mean 'gamma'?"
        >>> suggest("beta", ["gamma", "epochs"])
        'choose one of gamma, epochs'
    """
    known = list(known)
    near = nearest(name, known)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    if len(known) > _LISTED:
        return f"none of the {len(known)} known names is similar"
    return f"choose one of {', '.join(known)}" if known else "no name is known"
