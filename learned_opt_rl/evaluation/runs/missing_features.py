"""Learned optimisers without one of the features they were trained with.

An agent that is not ours may have no dormancies to give, no epochs and minibatches, no
known length, or parameters whose paths do not say which network explores. What each of
these costs is measured by running a rule by a name such as ``minatar@no-dormancy``.
"""

from typing import Any

import optax

from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.features import Horizon

FEATURES: dict[str, str] = {
    "no-dormancy": "the agent gives no dormancy; every neuron's is taken for 1",
    "no-batch-proportion": (
        "the agent tells the number of updates, not how they are grouped; the batch "
        "proportion is 0"
    ),
    "no-horizon": "the agent does not tell its length; that of the artifact is taken",
    "no-actor-mask": (
        "paths name neither actor nor critic; all is one network, and it all explores"
    ),
}
"""What may be missing, and what the optimiser does then."""


def options_without(
    missing: str, config: PPOConfig, options: dict[str, Any]
) -> dict[str, Any]:
    """The options of `pretrained` that an agent without a feature would give.

    Args:
        missing: A key of `FEATURES`.
        config: The run.
        options: What an agent that has them all gives.

    Returns:
        The options, changed.

    Raises:
        ValueError: If there is no such feature.

    Example:
        >>> options_without("no-horizon", PPOConfig(), {"horizon": None, "seed": 1})
        {'seed': 1}
    """
    if missing not in FEATURES:
        raise ValueError(
            f"{missing!r} is no missing feature; choose one of {', '.join(FEATURES)}"
        )
    if missing == "no-horizon":
        return {k: v for k, v in options.items() if k != "horizon"}
    if missing == "no-batch-proportion":
        return options | {"horizon": Horizon(config.num_updates)}
    if missing == "no-actor-mask":
        return options | {"networks": {"network": "."}}
    return options


def withhold_dormancy(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """An optimiser that is never told of dormancies.

    Args:
        optimizer: Any optax transformation.

    Returns:
        The same, whose ``update`` ignores ``dormancy=``.

    Example:
        >>> import optax
        >>> tx = withhold_dormancy(optax.sgd(0.1))
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        extra.pop("dormancy", None)
        return optimizer.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)
