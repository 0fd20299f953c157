"""The options that every optimizer has, and signatures that list them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar, cast, get_args

import jax

from learned_opt_rl.checks import suggest
from learned_opt_rl.features import Horizon, Layers, Networks
from learned_opt_rl.rules._core import checks

F = TypeVar("F", bound=Callable[..., Any])

ZeroGradients = Literal["leaf", "entry", "move"]


class Options(NamedTuple):
    """What the agent says of its run; see ``rules.pretrained``."""

    horizon: Horizon | None = None
    networks: Networks | None = None
    seed: int = 0
    key: jax.Array | None = None
    warn_past_horizon: bool = False
    zero_mean: bool | None = None
    zero_gradients: ZeroGradients = "leaf"
    layers: Layers | None = None


class RunOptions(TypedDict, total=False):
    """The keywords of ``Options`` beside ``horizon``, for type checkers."""

    networks: Networks | None
    layers: Layers | None
    seed: int
    key: jax.Array | None
    warn_past_horizon: bool
    zero_mean: bool | None
    zero_gradients: ZeroGradients


class ArtifactOptions(RunOptions, total=False):
    """The keywords of every ``from_artifact`` and ``pretrained``."""

    horizon: Horizon | None
    environment: str | None


_DEFAULTS = {**Options._field_defaults, "environment": None}


def read_options(horizon: Any, options: Any) -> Options:
    """Return the options; raise ``TypeError`` or ``ValueError`` for a wrong one.

    A rule that uses none of them raises the same errors, so that rules can be swapped.
    """
    for name in options:
        if name not in Options._fields:
            raise TypeError(
                f"{name}= is not an option of optimizers; {suggest(name, _DEFAULTS)}"
            )
    read = Options(horizon, **options)
    if horizon is not None:
        checks.require_horizon(horizon)
    checks.require_seed(read.seed, read.key)
    checks.require_choice("zero_mean", read.zero_mean, (None, True, False))
    checks.require_choice(
        "zero_gradients", read.zero_gradients, get_args(ZeroGradients)
    )
    return read


def parted(
    options: ArtifactOptions,
) -> tuple[Horizon | None, str | None, RunOptions]:
    """Return horizon, environment and the other options of an artifact."""
    rest: dict[str, Any] = {**options}
    horizon, environment = rest.pop("horizon", None), rest.pop("environment", None)
    return horizon, environment, cast(RunOptions, rest)


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are not at their defaults.

    ``optax.inject_hyperparams`` passes all of them, also to a rule that has none.
    """
    return {
        name: value
        for name, value in options.items()
        if name not in _DEFAULTS or value is not _DEFAULTS[name]
    }


def lists(keywords: Any) -> Callable[[F], F]:
    """Let ``inspect.signature`` show the keywords in place of ``**options``.

    ``optax.inject_hyperparams`` would take ``options`` for the name of an argument.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        named = {parameter.name for parameter in own}
        listed = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_DEFAULTS[name],
                annotation=annotation,
            )
            for name, annotation in keywords.__annotations__.items()
            if name not in named
        ]
        complete: Any = function
        complete.__signature__ = signature.replace(parameters=[*own, *listed])
        return function

    return decorate
