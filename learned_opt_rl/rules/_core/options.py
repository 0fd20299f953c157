"""The options that every optimizer has, and signatures that list them."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar, cast, get_args

import jax
import optax

from learned_opt_rl.artifacts import Artifact, Card
from learned_opt_rl.checks import suggest
from learned_opt_rl.errors import ArtifactError, HorizonWarning, warn_user
from learned_opt_rl.features import Horizon, Layers, Networks
from learned_opt_rl.rules._core import checks
from learned_opt_rl.rules.drifts import NamedDrift

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


def require_algorithm(artifact: Artifact, *algorithms: str) -> None:
    """Raise ``ArtifactError`` unless an artifact is of one of these algorithms."""
    if not isinstance(artifact, Artifact):
        raise TypeError(
            f"artifact={artifact!r} must be an Artifact; pass artifacts.load(name), or "
            "use pretrained(name)"
        )
    card = artifact.card
    if card.algorithm not in algorithms:
        raise ArtifactError(
            f"artifact '{card.name}' is of algorithm '{card.algorithm}', not "
            f"'{algorithms[0]}'; use learned_opt_rl.pretrained('{card.name}')"
        )


class NamedOptimizer(optax.GradientTransformationExtraArgs):
    """An optax transformation that prints as its artifact."""

    text = ""

    def __repr__(self) -> str:
        return self.text or super().__repr__()


def prints_its_name(from_artifact: F) -> F:
    """Let the optimizer or drift of a ``from_artifact`` print as its artifact."""

    @functools.wraps(from_artifact)
    def named(artifact: Artifact, *arguments: Any, **options: Any) -> Any:
        made = from_artifact(artifact, *arguments, **options)
        card = artifact.card
        size = f"{card.weights.parameters:,} parameters"
        text = f"<{card.kind} {card.name!r} ({card.algorithm}, {size})>"
        if not isinstance(made, optax.GradientTransformation):
            return NamedDrift(text, made)
        optimizer = NamedOptimizer(made.init, cast(Any, made.update))
        optimizer.text = text
        return optimizer

    return cast(F, named)


def trained_horizon(card: Card) -> Horizon | None:
    """Return the horizon that an artifact was trained for, or ``None``.

    Pass it as ``horizon=`` to use it on purpose, without a ``HorizonWarning``.

    Example:
        >>> from learned_opt_rl import artifacts, rules
        >>> rules.trained_horizon(artifacts.card("sign_mixture"))
        Horizon(total_updates=960, epochs=4, minibatches=8)
    """
    h = card.horizon
    return None if h is None else Horizon(h.total_updates, h.epochs, h.minibatches)


def assumed_horizon(card: Card, afterwards: str) -> Horizon:
    """Return `trained_horizon` with a ``HorizonWarning``, or raise ``ArtifactError``.

    ``afterwards`` says what the rule does past the horizon.
    """
    horizon = trained_horizon(card)
    if horizon is None:
        raise ArtifactError(
            f"the card of '{card.name}' names no horizon; pass horizon=Horizon(...)"
        )
    message = (
        f"'{card.name}' was built without horizon= and assumes a run of "
        f"{horizon.total_updates} updates (calls of tx.update), as it was trained for; "
        f"past them, {afterwards}. Pass the length of your run: horizon=Horizon.ppo("
        "total_timesteps, num_envs, num_steps, epochs, minibatches) or "
        "horizon=Horizon(total_updates)"
    )
    warn_user(message, HorizonWarning)
    return horizon
