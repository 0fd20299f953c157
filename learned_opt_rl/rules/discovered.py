"""Expressions: update rules and drifts that are text, found by search or by a model.

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
    >>> from learned_opt_rl import Horizon, discovered
    >>> horizon = Horizon(total_updates=1000)
    >>> tx = discovered.pretrained("discovered/discovered_1", horizon=horizon)
    >>> params = {"w": jnp.ones(3)}
    >>> updates, state = tx.update({"w": jnp.ones(3)}, tx.init(params), params)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack, overload

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import artifacts, expressions
from learned_opt_rl.errors import ArtifactError, ExpressionError
from learned_opt_rl.expressions import Function
from learned_opt_rl.families.expression import Form
from learned_opt_rl.features import Horizon, LeafRole
from learned_opt_rl.rules import drifts
from learned_opt_rl.rules._core.artifact import (
    assumed_horizon,
    prints_its_name,
    require_algorithm,
)
from learned_opt_rl.rules._core.network import alike, loops, split, stack, tables
from learned_opt_rl.rules._core.options import (
    ArtifactOptions,
    RunOptions,
    lists,
    parted,
    read_options,
)
from learned_opt_rl.rules._core.transform import (
    Inputs,
    Outputs,
    Rule,
    RuleState,
    Slot,
    in_parts,
    transformation,
)
from learned_opt_rl.rules.drifts import SMALLEST_RATIO
from learned_opt_rl.rules.tuned import tuned

if TYPE_CHECKING:
    from learned_opt_rl.rules._core.names import DriftName, OptimizerName
    from learned_opt_rl.rules.drifts import Drift

__all__ = [
    "Form",
    "RuleState",
    "drift",
    "from_artifact",
    "init",
    "optimizer",
    "pretrained",
    "scale_by_expression",
    "tuned_learning_rate",
]
__dir__ = __all__.copy


# lr falls with training proportion; both proportions are counted with the horizon.
_HORIZON_INPUTS = frozenset({"lr", "t_p", "b_p"})

_AT_THE_END = {"t_p": 1.0, "lr": 0.0, "b_p": 1.0, "l_p": 0.5, "iteration": 1e3}


@lists(RunOptions)
def scale_by_expression(
    function: Function | str,
    horizon: Horizon,
    *,
    constants: Mapping[str, Any] | None = None,
    learning_rate: Any = 1.0,
    centered: bool = False,
    **options: Unpack[RunOptions],
) -> optax.GradientTransformationExtraArgs:
    r"""Replace gradients by an expression's value, a direction to be subtracted.

    As with optax's ``scale_by_*``, the result is to be multiplied by a negative step
    size: ``optax.scale(-1.0)``, which ``optimizer`` does. The expression is evaluated
    once per leaf, in float32. Optional keywords of ``update``: ``dormancy``,
    ``training_proportion`` and ``batch_proportion``, as for ``open_rl.scale_by_open``.
    Clip gradients to global norm 0.5, actor and critic each, as the published agent
    does.

    The arguments are those of ``rules.pretrained`` and these:

    - ``function``: An expression of kind ``"optimizer"``, or its text.
    - ``constants``: Values for the declared constants, by name; scalars, which may be
      traced. By default the declared values.
    - ``learning_rate``: The base of the input ``lr``, which falls linearly with
      training proportion, ``lr = learning_rate * (1 - t_p)``; a scalar, which may be
      traced. Expressions without the input ``lr`` ignore it.
    - ``centered``: Whether the expression was published with zero-mean updates, which
      ``zero_mean`` can override.

    Returns:
        A ``GradientTransformationExtraArgs`` with ``RuleState``.

    Raises:
        ExpressionError: The text does not parse, or no constant has the given name.
        ValueError: The expression is a drift. In ``update``: ``params`` is missing, or
            gradients, state, parameters and dormancy do not fit together.
        TypeError: ``horizon`` is not a ``Horizon``; a parameter is not floating.

    References:
        The two papers of Goldie et al. 2025 named above: momenta without bias
        correction, ``lr`` annealed linearly, noise for the actor only.

    Example:
        >>> text = "optimizer\ninputs g, lr\nreturn lr * sign(g)"
        >>> rule = scale_by_expression(text, Horizon(100))
    """
    body = _function(function, "optimizer", constants)

    def step(given: Any, inputs: Inputs, roles: list[LeafRole]) -> Outputs:
        del roles
        values, rate = given
        return _step(body, values, rate, inputs)

    rule = Rule(
        slots={slot.name: Slot(start=slot.initial) for slot in body.memory},
        step=step,
        weights=(constants, learning_rate),
        context=True,
        noise="rand" in body.inputs,
        zero_mean=centered,
        seen="flag",
        past_horizon=_past_horizon(body) if options.get("warn_past_horizon") else "",
    )
    return transformation(rule, read_options(horizon, options))


@lists(RunOptions)
def optimizer(
    function: Function | str,
    horizon: Horizon,
    *,
    constants: Mapping[str, Any] | None = None,
    learning_rate: Any = 1.0,
    centered: bool = False,
    **options: Unpack[RunOptions],
) -> optax.GradientTransformationExtraArgs:
    r"""Return ``scale_by_expression`` ready for ``optax.apply_updates``.

    Arguments and errors are those of ``scale_by_expression``.

    Returns:
        ``optax.chain(scale_by_expression(...), optax.scale(-1.0))``. The state is a
        pair whose first element is the ``RuleState``.

    Example:
        >>> text = "optimizer\ninputs g, lr\nreturn lr * sign(g)"
        >>> tx = optimizer(text, Horizon(100), learning_rate=0.01)
    """
    direction = scale_by_expression(
        function,
        horizon,
        constants=constants,
        learning_rate=learning_rate,
        centered=centered,
        **options,
    )
    return optax.chain(direction, optax.scale(-1.0))


def drift(
    function: Function | str,
    *,
    constants: Mapping[str, Any] | None = None,
    offset: float = 0.0,
) -> Drift:
    r"""Return an expression as a drift, ``relu(f(r, A) - offset)``.

    ``constants`` are values for the declared constants, such as ``{"eps": 0.1}``;
    ``offset`` is as for ``drifts.from_function``.

    Returns:
        ``(ratio, advantage) -> drift``, elementwise, float32.

    Raises:
        ExpressionError: The text does not parse, or a constant has no such name.
        ValueError: The function is an optimizer.

    References:
        Goldie et al. 2025 (how to meta-learn), section 3 and supplement C.

    Example:
        >>> d = drift("drift\ninputs r, A\nreturn (r - 1)**2 * abs(A)")
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
    """Return the function, parsed; check its kind and the constants' names."""
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
    """Return the published learning rate of an artifact for an environment.

    It is the rate before annealing, as tuned by the authors for the rule each search
    started from (SGD, Adam or PPO with Adam), not for the function itself.

    Raises:
        ArtifactError: There is no such artifact, or its card names no table.
        ValueError: The table has no such environment.

    References:
        Goldie et al. 2025 (how to meta-learn), tables 4 to 6.

    Example:
        >>> tuned_learning_rate("discovered/open_llm_minatar", "Breakout-MinAtar")
        1.02
    """
    return _tuned(artifacts.card(name), environment)


def init(key: jax.Array, form: Form) -> dict[str, jax.Array]:
    r"""Return the declared constants of an expression, where a search starts.

    They are float32 scalars by name. ``key`` is not used: nothing is drawn.

    Example:
        >>> text = "optimizer\ninputs g\nconstant c = 0.5\nreturn c * g"
        >>> init(jax.random.key(0), Form(text))
        {'c': Array(0.5, dtype=float32)}
    """
    del key
    constants = form.function.init_constants()
    return {name: jnp.asarray(c, jnp.float32) for name, c in constants.items()}


@lists(ArtifactOptions)
@prints_its_name
def from_artifact(
    artifact: artifacts.Artifact,
    *,
    constants: Mapping[str, Any] | None = None,
    learning_rate: Any = None,
    **options: Unpack[ArtifactOptions],
) -> Any:
    """Return the optimizer or the drift of an artifact.

    A drift takes only ``constants``, by default the artifact's weights. An optimizer
    also takes ``learning_rate`` and the options of ``rules.pretrained``. Its defaults
    are the artifact's own horizon and learning rate; ``environment`` chooses the
    published learning rate there, which expressions without the input ``lr`` ignore.

    Returns:
        An optax transformation, or a function ``(ratio, advantage) -> drift``.

    Raises:
        ArtifactError: The artifact is of an algorithm other than ``"expression"``.
        ValueError: Nothing is tuned for ``environment``.
        TypeError: The artifact does not take an option, or ``learning_rate`` and
            ``environment`` are both given.

    Example:
        >>> artifact = artifacts.load("discovered/discovered_1")
        >>> tx = from_artifact(artifact, horizon=Horizon(1000))
    """
    require_algorithm(artifact, "expression")
    constants = artifact.weights if constants is None else constants
    card = artifact.card
    function = expressions.parse(str(artifact.text))
    if card.kind != "drift":
        return _optimizer(card, function, constants, learning_rate, **options)
    given = [*options, *([] if learning_rate is None else ["learning_rate"])]
    if given:
        raise TypeError(
            f"'{card.name}' is a drift, which takes no {', '.join(given)}; only "
            "constants= can be set"
        )
    offset: Any = card.architecture["offset"]
    return drift(function, constants=constants, offset=offset)


@overload
def pretrained(
    name: DriftName, *, fetch: bool = False, constants: Mapping[str, Any] | None = None
) -> Drift: ...
@overload
def pretrained(
    name: OptimizerName,
    *,
    fetch: bool = False,
    constants: Mapping[str, Any] | None = None,
    learning_rate: Any = None,
    **options: Unpack[ArtifactOptions],
) -> optax.GradientTransformationExtraArgs: ...
@overload
def pretrained(
    name: str,
    *,
    fetch: bool = False,
    constants: Mapping[str, Any] | None = None,
    learning_rate: Any = None,
    **options: Unpack[ArtifactOptions],
) -> Any: ...
@lists(ArtifactOptions)
def pretrained(
    name: str,
    *,
    fetch: bool = False,
    constants: Mapping[str, Any] | None = None,
    learning_rate: Any = None,
    **options: Unpack[ArtifactOptions],
) -> Any:
    """Return a pretrained expression by name, as ``rules.pretrained`` does.

    Example:
        >>> tx = pretrained(
        ...     "discovered/open_llm_minatar",
        ...     horizon=Horizon(1000),
        ...     environment="Breakout-MinAtar",
        ... )
    """
    return from_artifact(
        artifacts.load(name, fetch=fetch),
        constants=constants,
        learning_rate=learning_rate,
        **options,
    )


def _optimizer(
    card: artifacts.Card,
    function: Function,
    constants: Mapping[str, Any] | None,
    learning_rate: Any,
    **options: Unpack[ArtifactOptions],
) -> optax.GradientTransformationExtraArgs:
    horizon, environment, rest = parted(options)
    if learning_rate is not None and environment is not None:
        raise TypeError(
            f"learning_rate={learning_rate!r} and environment={environment!r} both set "
            "the learning rate; give one"
        )
    if environment is not None and "learning_rates" in card.architecture:
        learning_rate = _tuned(card, environment)
    if learning_rate is None:
        learning_rate = card.architecture.get("learning_rate", 1.0)
    if horizon is None and _HORIZON_INPUTS.isdisjoint(function.inputs):
        horizon = Horizon(1)  # nothing reads it
    if horizon is None:
        horizon = assumed_horizon(card, _past_horizon(function))
    return optimizer(
        function,
        horizon,
        constants=constants,
        learning_rate=learning_rate,
        centered=bool(card.architecture["zero_mean"]),
        **rest,
    )


def _tuned(card: artifacts.Card, environment: str) -> float:
    table = card.architecture.get("learning_rates")
    if table is None:
        raise ArtifactError(
            f"'{card.name}' has no table of learning rates: its function has no input "
            f"lr. Leave environment={environment!r} out"
        )
    return tuned(str(table), environment)["learning_rate"]


def _step(
    function: Function,
    constants: Mapping[str, Any] | None,
    learning_rate: Any,
    inputs: Inputs,
) -> Outputs:
    """Evaluate the function once per leaf, side by side on leaves of one shape."""
    t_p = inputs.training_proportion
    shared = {
        "t_p": jnp.asarray(t_p, jnp.float32),
        "b_p": jnp.asarray(inputs.batch_proportion, jnp.float32),
        "lr": jnp.asarray(learning_rate, jnp.float32) * (1 - t_p),
        "iteration": jnp.asarray(inputs.count, jnp.float32) + 1,
    }

    def one(mine: dict[str, jax.Array], before: dict[str, jax.Array]) -> Any:
        return function.evaluate(mine | shared, before, constants)

    def run(_: int, part: Inputs) -> Outputs:
        mine = {
            "p": part.params,
            "g": part.gradients,
            "dorm": part.dormancy,
            "l_p": part.positions,
            **({"rand": part.noise} if part.noise else {}),
        }
        if len(part.params) == 1:
            single = {name: jnp.float32(x) for name, (x,) in mine.items()}
            value, after = one(single, {name: x for name, (x,) in part.memory.items()})
            return [value], {name: [x] for name, x in after.items()}
        stacked = {name: stack(leaves) for name, leaves in mine.items()}
        before = {name: stack(leaves) for name, leaves in part.memory.items()}
        count = len(part.params)
        batch = -(-count // loops(len(inputs.params)))
        found = jax.lax.map(lambda x: one(*x), (stacked, before), batch_size=batch)
        values, after = jax.tree.map(lambda x: split(x.ravel(), part.params), found)
        return values, after

    return in_parts(inputs, _tables_of_a_shape(inputs), run)


def _tables_of_a_shape(inputs: Inputs) -> list[list[int]]:
    """Return the indices of the leaves of each table, all of one shape."""
    kinds = [
        # jax.lax.map cannot batch empty leaves: each is of a kind of its own.
        (p.shape, dormancy.shape, i if p.size == 0 else None)
        for i, (p, dormancy) in enumerate(
            zip(inputs.params, inputs.dormancy, strict=True)
        )
    ]
    return [
        [part[place] for place in chosen]
        for part in alike(kinds)
        for chosen in tables([inputs.params[i] for i in part])
    ]


def _past_horizon(function: Function) -> str:
    """Return what the function does past its horizon, for messages."""
    with jax.ensure_compile_time_eval():  # it may be built inside of jit
        some = jnp.array([-0.7, 0.4, 1.3])
        inputs = dict.fromkeys(function.inputs, some) | _AT_THE_END
        value, _ = function.evaluate(
            {name: inputs[name] for name in function.inputs},
            {slot.name: some for slot in function.memory},
        )
        stops = not jnp.any(value)
    return "every update is 0" if stops else "training proportion stays 1"
