"""Closed forms: update rules and drifts that are text, found by search or by a model.

The published symbolic, LLM-proposed and archive-discovered functions are artifacts
whose "weights" are a few lines of `learned_opt_rl.expressions`, shown in their cards
exactly as stored. They are parsed and checked, never executed as Python.

References:
    Goldie et al., 2025: "How Should We Meta-Learn Reinforcement Learning
    Algorithms?", supplement C. Goldie et al., 2025: "Do Symbolic or Black-Box
    Representations Generalise Better in Learned Optimisation?", section 6 and
    appendix B. Lu et al., 2022: "Discovered Policy Optimisation" (DPO).

Example:
    >>> import jax.numpy as jnp
    >>> from learned_opt_rl import discovered
    >>> tx = discovered.pretrained("discovered/discovered_1")
    >>> params = {"w": jnp.ones(3)}
    >>> updates, state = tx.update({"w": jnp.ones(3)}, tx.init(params), params)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import artifacts, expressions
from learned_opt_rl.errors import ArtifactError, ExpressionError
from learned_opt_rl.expressions import Function
from learned_opt_rl.families.expression import Form as Form
from learned_opt_rl.features import Horizon, Networks, broadcast_dormancy, leaf_roles
from learned_opt_rl.rules import _tree_checks as checks
from learned_opt_rl.rules import drifts
from learned_opt_rl.rules._artifact import require_algorithm
from learned_opt_rl.rules._drift_forms import SMALLEST_RATIO
from learned_opt_rl.rules._expression_step import StepInputs, step, zero_mean
from learned_opt_rl.rules._leaves import split
from learned_opt_rl.rules._noise import exploration_noise, init_key, split_key
from learned_opt_rl.rules._progress import horizon_of, progress
from learned_opt_rl.rules.tuned import tuned

if TYPE_CHECKING:
    from learned_opt_rl.rules.drifts import Drift


class ScaleByExpressionState(NamedTuple):
    """State of ``scale_by_expression``: arrays only.

    Attributes:
        count: int32 scalar, optimiser steps taken.
        memory: Per declared slot a tree like the parameters, float32.
        key: uint32 random key data of the exploration noise.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    memory: dict[str, Any]
    key: jax.Array


def scale_by_expression(
    function: Function | str,
    horizon: Horizon,
    *,
    constants: Mapping[str, Any] | None = None,
    learning_rate: Any = 1.0,
    zero_mean_updates: bool = False,
    networks: Networks | None = None,
    seed: int = 0,
    key: jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""A closed form as an optax transformation.

    The function is evaluated once per leaf and its value *subtracted*, as published.
    Optional keywords of ``update``: ``dormancy``, ``training_proportion`` and
    ``batch_proportion``, as for ``open_rl.scale_by_open``. Gradients should be
    clipped to global norm 0.5, actor and critic each, as in the published agent.

    Args:
        function: An expression of kind ``"optimizer"``, or its text.
        horizon: Length of the run.
        constants: Values for the function's declared constants, by name; scalars,
            which may be traced. The declared values where ``None``.
        learning_rate: The base of the input ``lr``, which falls linearly with
            training proportion, ``lr = learning_rate * (1 - t_p)``; a scalar, which
            may be traced. Unused by functions that have no input ``lr``.
        zero_mean_updates: Subtract the mean over all parameters of all networks.
        networks: Which parameters are whose, where paths do not say; see
            ``features.leaf_roles``.
        seed: Seed of the exploration noise.
        key: jax random key, instead of ``seed``.

    Returns:
        A ``GradientTransformationExtraArgs`` with ``ScaleByExpressionState``.

    Raises:
        ExpressionError: The text does not parse, or a constant has no such name.
        ValueError: The function is a drift. In ``update``: ``params`` is missing, or
            gradients, state, parameters and dormancy do not fit together.
        TypeError: ``horizon`` is no ``Horizon``; a parameter is not floating.

    References:
        The two papers of Goldie et al. 2025 named above: momenta without bias
        correction, ``lr`` annealed linearly, noise for the actor only.

    Example:
        >>> from learned_opt_rl import Horizon, discovered
        >>> text = "optimizer\ninputs g, lr\nreturn lr * sign(g)"
        >>> tx = discovered.scale_by_expression(text, Horizon(100), learning_rate=0.01)
    """
    body = _function(function, "optimizer", constants)
    checks.require_horizon(horizon)
    checks.require_seed(seed, key)

    def init_fn(params: optax.Params) -> ScaleByExpressionState:
        checks.require_floating(params)
        return ScaleByExpressionState(
            count=jnp.zeros((), jnp.int32),
            memory={
                slot.name: _init_slot(body, slot.name, params) for slot in body.memory
            },
            key=init_key(params, seed=seed, key=key),
        )

    def update_fn(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        dormancy: Any = None,
        training_proportion: jax.Array | float | None = None,
        batch_proportion: jax.Array | float | None = None,
        **unused: Any,
    ) -> tuple[optax.Updates, ScaleByExpressionState]:
        del unused
        checks.require_params(params)
        if not jax.tree.leaves(params):  # all masked away, as in multi_transform
            return updates, cast(ScaleByExpressionState, state)
        before = _checked_state(state, updates, params, body)
        given = (training_proportion, batch_proportion)
        t_p, b_p = progress(before.count, horizon, given)
        leaves, structure = jax.tree.flatten(params)
        roles = leaf_roles(params, networks)
        next_key, noise_key = split_key(before.key, key)
        noise = exploration_noise(noise_key, leaves, roles)
        inputs = StepInputs(
            params=leaves,
            gradients=jax.tree.leaves(updates),
            dormancy=broadcast_dormancy(dormancy, params),
            noise=split(noise, leaves),
            roles=roles,
            memory={n: jax.tree.leaves(tree) for n, tree in before.memory.items()},
            shared={
                "t_p": jnp.asarray(t_p, jnp.float32),
                "b_p": jnp.asarray(b_p, jnp.float32),
                "lr": jnp.asarray(learning_rate, jnp.float32) * (1 - t_p),
                "iteration": before.count.astype(jnp.float32) + 1,
            },
        )
        values, memory = step(body, constants, inputs)
        if zero_mean_updates:
            values = zero_mean(values)
        moved = [-v.astype(p.dtype) for v, p in zip(values, leaves, strict=True)]
        return jax.tree.unflatten(structure, moved), ScaleByExpressionState(
            count=jnp.asarray(optax.safe_increment(before.count)),
            memory={n: jax.tree.unflatten(structure, m) for n, m in memory.items()},
            key=next_key,
        )

    return optax.GradientTransformationExtraArgs(
        init_fn, cast("Callable[..., Any]", update_fn)
    )


def drift(
    function: Function | str,
    *,
    constants: Mapping[str, Any] | None = None,
    offset: float = 0.0,
) -> Drift:
    r"""A closed form as a drift, ``relu(f(r, A) - offset)``, for `losses.policy_loss`.

    Args:
        function: An expression of kind ``"drift"``, or its text.
        constants: Values for its declared constants, such as ``{"eps": 0.1}``.
        offset: Subtracted before the relu: 1e-6 for the published symbolic functions,
            0 for the proposals of language models.

    Returns:
        ``(ratio, advantage) -> drift``, element-wise, float32.

    Raises:
        ExpressionError: The text does not parse, or a constant has no such name.
        ValueError: The function is an optimiser.

    References:
        Goldie et al. 2025 (how to meta-learn), section 3 and supplement C.

    Example:
        >>> import jax.numpy as jnp
        >>> from learned_opt_rl import discovered
        >>> d = discovered.drift("drift\ninputs r, A\nreturn (r - 1)**2 * abs(A)")
        >>> d(jnp.array([1.0, 2.0]), jnp.ones(2)).tolist()
        [0.0, 1.0]
    """
    body = _function(function, "drift", constants)

    def raw(ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        log_ratio = jnp.log(jnp.maximum(ratio, SMALLEST_RATIO))
        available = {"r": ratio, "A": advantage, "log_r": log_ratio}
        value = body.evaluate(available, {}, constants)[0]
        return value.astype(jnp.result_type(ratio))

    return drifts.from_function(raw, offset=offset)


def _function(
    given: Function | str, kind: str, constants: Mapping[str, Any] | None
) -> Function:
    """The function, parsed and of the right kind, with constants that it declares."""
    function = expressions.parse(given) if isinstance(given, str) else given
    if not isinstance(function, Function):
        raise TypeError(
            f"function={given!r} must be a text or an expressions.Function; "
            "expressions.parse(text) makes one"
        )
    if function.kind != kind:
        use = "drift(function)" if kind == "optimizer" else "scale_by_expression(...)"
        raise ValueError(
            f"function is of kind {function.kind!r}; give one of kind {kind!r}, or use "
            f"discovered.{use}"
        )
    declared = function.init_constants()
    for name in constants or {}:
        if name not in declared:
            raise ExpressionError(
                f"constants= sets {name!r}, which the function does not declare; it "
                f"declares {', '.join(declared) or 'none'}",
                category="call_error",
            )
    return function


def tuned_learning_rate(name: str, environment: str) -> float:
    """The published learning rate of an artifact for an environment.

    Args:
        name: Name of an artifact whose function has the input ``lr``.
        environment: A name such as ``"Breakout-MinAtar"`` or ``"CartPole-v1"``.

    Returns:
        The rate before annealing, as tuned by the authors for the rule each search
        started from (SGD, Adam or PPO with Adam), not for the function itself.

    Raises:
        ArtifactError: There is no such artifact, or its card names no table.
        ValueError: The table has no such environment.

    References:
        Goldie et al. 2025 (how to meta-learn), tables 4 to 6.

    Example:
        >>> from learned_opt_rl import discovered
        >>> discovered.tuned_learning_rate(
        ...     "discovered/open_llm_minatar", "Breakout-MinAtar"
        ... )
        1.02
    """
    return _tuned(artifacts.card(name), environment)


def init(key: jax.Array, form: Form) -> dict[str, jax.Array]:
    r"""Return the declared constants of an expression, where a search starts.

    Args:
        key: Unused; the constants are not drawn.
        form: The expression.

    Returns:
        float32 scalars by name.

    Example:
        >>> import jax
        >>> text = "optimizer\ninputs g\nconstant c = 0.5\nreturn c * g"
        >>> init(jax.random.key(0), Form(text))
        {'c': Array(0.5, dtype=float32)}
    """
    del key
    constants = form.function.init_constants()
    return {name: jnp.asarray(c, jnp.float32) for name, c in constants.items()}


def from_artifact(
    artifact: artifacts.Artifact,
    *,
    constants: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """The transformation, or the drift, of a closed-form artifact.

    Args:
        artifact: A loaded artifact whose algorithm is ``"expression"``.
        constants: Values for its declared constants, by name; the artifact's weights
            by default.
        **options: Of an optimiser ``horizon`` (by default the artifact's),
            ``learning_rate`` (by default the card's), or ``environment`` for the
            published rate there, and those of ``scale_by_expression``. None for a
            drift.

    Returns:
        An optax transformation, or a function ``(ratio, advantage) -> drift``.

    Raises:
        ArtifactError: The artifact is of another algorithm.
        TypeError: An option that the artifact does not take.

    Example:
        >>> from learned_opt_rl import artifacts, discovered
        >>> tx = discovered.from_artifact(artifacts.load("discovered/discovered_1"))
    """
    require_algorithm(artifact, "expression")
    constants = artifact.weights if constants is None else constants
    card = artifact.card
    function = expressions.parse(str(artifact.text))
    if card.kind == "drift":
        offset = float(card.architecture["offset"])
        if options:
            raise TypeError(
                f"'{card.name}' is a drift, which takes no {', '.join(options)}; only "
                "constants= can be set"
            )
        return drift(function, constants=constants, offset=offset)
    return _optimizer(card, function, constants=constants, **options)


def pretrained(name: str, *, fetch: bool = False, **options: Any) -> Any:
    """A closed-form artifact by name.

    Args:
        name: Name of the artifact, e.g. ``"discovered/open_llm_minatar"``.
        fetch: Download a remote artifact that is not in the cache yet.
        **options: As for ``from_artifact``.

    Returns:
        An optax transformation, or a function ``(ratio, advantage) -> drift``.

    Raises:
        ArtifactError: The name is unknown, or card or text are unusable.
        FetchError: The artifact is remote, and not cached or not to be had.

    Example:
        >>> from learned_opt_rl import discovered
        >>> tx = discovered.pretrained(
        ...     "discovered/open_llm_minatar", environment="Breakout-MinAtar"
        ... )
    """
    return from_artifact(artifacts.load(name, fetch=fetch), **options)


def _optimizer(
    card: artifacts.Card,
    function: Function,
    *,
    horizon: Horizon | None = None,
    learning_rate: Any = None,
    environment: str | None = None,
    zero_mean_updates: bool | None = None,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    if learning_rate is not None and environment is not None:
        raise TypeError(
            f"learning_rate={learning_rate!r} and environment={environment!r} both set "
            "the learning rate; give one"
        )
    if environment is not None:
        learning_rate = _tuned(card, environment)
    if learning_rate is None:
        learning_rate = card.architecture.get("learning_rate", 1.0)
    if zero_mean_updates is None:
        zero_mean_updates = bool(card.architecture["zero_mean"])
    return scale_by_expression(
        function,
        horizon_of(card, horizon),
        learning_rate=learning_rate,
        zero_mean_updates=zero_mean_updates,
        **options,
    )


def _tuned(card: artifacts.Card, environment: str) -> float:
    table = card.architecture.get("learning_rates")
    if table is None:
        raise ArtifactError(
            f"'{card.name}' has no table of learning rates: its function has no input "
            f"lr. Leave environment={environment!r} out"
        )
    return tuned(str(table), environment)["learning_rate"]


def _init_slot(function: Function, name: str, params: Any) -> Any:
    return jax.tree.map(lambda p: function.init_memory(jnp.shape(p))[name], params)


def _checked_state(
    state: Any, updates: Any, params: Any, function: Function
) -> ScaleByExpressionState:
    checks.require_state(state, ScaleByExpressionState)
    slots = {slot.name for slot in function.memory}
    if set(state.memory) != slots:
        raise ValueError(
            f"the optimiser state holds the slots {sorted(state.memory)}, the function "
            f"declares {sorted(slots)}: the state is of another tx. Make it with "
            "tx.init(params) of this one"
        )
    checks.require_same_trees(updates, params, state.memory)
    return state
