"""User-defined rules: expression files, artifact folders, optax's, Python objects.

- ``PATH.txt`` is an expression; ``PATH.txt:RATE`` also gives its input ``lr``.
- ``./FOLDER`` is the folder of an artifact. The path starts with ``.``, ``/`` or ``~``.
- ``optax.NAME:RATE`` is ``optax.NAME(RATE)``.
- ``MODULE:NAME`` is your own code: an optax optimizer, a function ``horizon ->
  optimizer``, a drift ``(ratio, advantage) -> drift`` or an update rule. The module is
  imported from the current folder or the installed packages.
"""

import functools
import importlib
import inspect
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl import artifacts, checks, expressions, families
from learned_opt_rl.artifacts import registry
from learned_opt_rl.artifacts.weights import read_limited
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.features import Horizon
from learned_opt_rl.rules.lpg import UpdateRule

_EXPRESSION = re.compile(r"(.*\.txt)(?::(.*))?")
_ATTRIBUTE = re.compile(r"(?!artifact:|open:|optax\.)([A-Za-z_][\w.]*):([A-Za-z_]\w*)")
_OBJECTS = (
    "an optax optimizer, a function horizon -> optimizer, a drift (ratio, advantage) "
    "-> drift,"
)
_ACCEPTED = f"{_OBJECTS} or an update rule"
_ZERO = 1e-5  # what float32 may leave of a drift at ratio 1


class Own(NamedTuple):
    """A user-defined rule.

    Attributes:
        kind: ``"optimizer"``, ``"drift"`` or ``"update_rule"``.
        make: ``make(horizon=..., key=...)`` for an optimizer, else ``make()``.
    """

    kind: str
    make: Callable[..., Any]


def find(rule: str) -> Own | None:
    """Return a user-defined rule, or None if ``rule`` has none of these forms.

    Raises:
        ArtifactError: The file, folder, module or function cannot be used.
        ValueError: The learning rate is not a positive number.
    """
    if rule.startswith("optax."):
        return _of_optax(rule)
    if match := _EXPRESSION.fullmatch(rule):
        return _expression(rule, *match.groups())
    if _is_folder(rule):
        return _folder(rule)
    if match := _ATTRIBUTE.fullmatch(rule):
        return _attribute(rule, *match.groups())
    return None


def file(rule: str) -> pathlib.Path | None:
    """Return the file that defines a user-defined rule, None if there is none.

    Of a module this is its own file, without what it imports. Nothing is imported or
    executed: the name may come from another person's rows.
    """
    try:
        return next(filter(pathlib.Path.is_file, _files(rule)), None)
    except (OSError, RuntimeError, ValueError):  # not a path on this system
        return None


def _files(rule: str) -> Sequence[pathlib.Path]:
    if match := _EXPRESSION.fullmatch(rule):
        return [pathlib.Path(match[1])]
    if _is_folder(rule):
        # The card has the digest of the weights.
        return [pathlib.Path(rule).expanduser() / "card.json"]
    if match := _ATTRIBUTE.fullmatch(rule):
        place = pathlib.Path(*match[1].split("."))
        names = place / "__init__.py", place.with_suffix(".py")  # as Python prefers
        return [pathlib.Path(top) / name for top in ["", *sys.path] for name in names]
    return []


def is_own(rule: str) -> bool:
    """Return whether a rule has the form of a user-defined one."""
    forms = _EXPRESSION, _ATTRIBUTE
    is_one = rule.startswith("optax.") or _is_folder(rule)
    return is_one or any(form.fullmatch(rule) for form in forms)


def _is_folder(rule: str) -> bool:
    return rule.startswith((".", "/", "~"))


def _expression(rule: str, path: str, rate: str | None) -> Own:
    content = read_limited(pathlib.Path(path), "give another file")
    try:
        text = content.decode()
        function = expressions.parse(text)
    except ValueError as error:
        raise ArtifactError(f"rule={rule!r} is not an expression: {error}") from error
    if rate is None and "lr" in function.inputs:
        raise ArtifactError(
            f"rule={rule!r} has the input lr; give its value, as in '{path}:1e-3'"
        )
    if rate is not None and "lr" not in function.inputs:
        raise ArtifactError(
            f"rule={rule!r} has no input lr; name the file alone, '{path}'"
        )
    sizes: dict[str, Any] = {"offset": 0.0}
    if function.kind == "optimizer":
        sizes = {"zero_mean": False}
    if rate is not None:
        sizes["learning_rate"] = positive(rule, rate)
    constants = function.init_constants()
    return of_artifact(artifacts.in_memory("expression", sizes, constants, text))


def _folder(rule: str) -> Own:
    folder = pathlib.Path(rule).expanduser()
    if not (folder / "card.json").is_file():
        raise ArtifactError(
            f"rule={rule!r} is not the folder of an artifact ({folder / 'card.json'} "
            "does not exist); a run becomes one by `learned-opt-rl train promote`"
        )
    return of_artifact(registry.load_folder(folder))


def of_artifact(artifact: artifacts.Artifact) -> Own:
    """Return an artifact that need not be installed."""
    module = families.find(artifact.card.algorithm).import_module()
    make = functools.partial(module.from_artifact, artifact)
    return Own(artifact.card.kind, make)


def _of_optax(rule: str) -> Own:
    name, _, rate = rule.removeprefix("optax.").partition(":")
    known = list(filter(_takes_learning_rate, dir(optax)))
    if name not in known:
        raise ArtifactError(
            f"rule={rule!r}: optax has no optimizer {name!r} with a learning rate; "
            f"{checks.suggest(name, known)}"
        )
    made = _checked(rule, getattr(optax, name), positive(rule, rate))
    return Own("optimizer", lambda **_: made)


def _takes_learning_rate(name: str) -> bool:
    """Return whether a name is one of optax's optimizers, which negate the gradient."""
    found = getattr(optax, name)
    if not inspect.isfunction(found):
        return False
    return next(iter(inspect.signature(found).parameters), None) == "learning_rate"


def _attribute(rule: str, module: str, name: str) -> Own:
    here = str(pathlib.Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ArtifactError(
            f"rule={rule!r} is not MODULE:NAME ({error}); run the command in the "
            "folder of the module, or install it"
        ) from error
    return of_object(rule, value)


def of_object(rule: str, value: Any, *, given: bool = False) -> Own:
    """Return the rule that a Python object is.

    Messages name it ``rule``; it was ``given`` in ``rules={...}``, or else found there.

    Raises:
        ArtifactError: The object is none of those listed in `_ACCEPTED`.
    """
    if isinstance(value, UpdateRule):
        return Own("update_rule", lambda: value)
    if isinstance(value, optax.GradientTransformation):
        return Own("optimizer", lambda **_: value)
    if _accepts(value, 1):
        return _of_function(rule, value)
    if _accepts(value, 2):
        _check_drift(rule, value)
        return Own("drift", lambda: value)
    if given:
        raise ArtifactError(
            f"rules={{{rule!r}: {value!r}}}: must be {_OBJECTS} an update rule, or the "
            "name of a rule"
        )
    raise ArtifactError(f"rule={rule!r}: {value!r} is not {_ACCEPTED}")


def _check_drift(rule: str, value: Callable[..., Any]) -> None:
    """Refuse other functions of two arguments, which would train something else."""
    ratio, advantage = jnp.array([0.5, 1.0, 1.0]), jnp.array([1.0, -1.0, 1.0])
    try:
        found = np.asarray(value(ratio, advantage))
        is_drift = found.shape == ratio.shape and bool(np.isfinite(found).all())
        is_drift = is_drift and bool((abs(found[1:]) <= _ZERO).all())
        reason = f"returns {found} for the ratios {ratio} and advantages {advantage}"
    except Exception as error:  # Code of the user may raise anything.
        is_drift, reason = False, f"raises {type(error).__name__}: {error}"
    if not is_drift:
        raise ArtifactError(
            f"rule={rule!r}: a function of two arguments must be a drift (ratio, "
            "advantage) -> drift, a finite array of the ratio's shape that is 0 at "
            f"ratio 1, but it {reason}. Otherwise pass {_ACCEPTED}"
        )


def _accepts(value: Any, arguments: int) -> bool:
    """Return whether a value can be called with this many positional arguments."""
    try:
        inspect.signature(value).bind(*range(arguments))
    except (TypeError, ValueError):
        return False
    return True


def _of_function(rule: str, function: Callable[[Horizon], Any]) -> Own:
    def make(horizon: Horizon, key: jax.Array) -> optax.GradientTransformation:
        del key
        return _checked(rule, function, horizon)

    return Own("optimizer", make)


def _checked(rule: str, function: Callable[..., Any], argument: Any) -> Any:
    try:
        made = function(argument)
    except (AttributeError, TypeError, ValueError) as error:
        raise ArtifactError(f"rule={rule!r} cannot be built: {error}") from error
    if not (hasattr(made, "init") and hasattr(made, "update")):
        raise ArtifactError(
            f"rule={rule!r}: the function must return an optax optimizer, but returned "
            f"the type {type(made).__name__}"
        )
    return made


def positive(rule: str, text: str) -> float:
    """Return a learning rate, or raise ValueError."""
    try:
        rate = float(text)
    except ValueError:
        rate = float("nan")
    if not 0 < rate < float("inf"):
        raise ValueError(
            f"rule={rule!r}: the learning rate {text!r} is not a positive number; "
            f"write it as in '{rule.partition(':')[0]}:1e-3'"
        )
    return rate
