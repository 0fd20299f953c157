"""Learned optimizers without one of the features they were trained with.

The user's agent may have no dormancy, no epochs and minibatches, no known length, or
parameters whose paths do not tell which network explores. To measure what a missing
feature costs, run a rule by a name such as ``minatar@no-dormancy``.
"""

from typing import Any

import optax

from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.features import Horizon

FEATURES: dict[str, str] = {
    "no-dormancy": "the agent gives no dormancy; every neuron counts as 1",
    "no-batch-proportion": (
        "the agent gives the number of updates, but not how they are grouped; the "
        "batch proportion is 0"
    ),
    "no-horizon": "the agent gives no horizon; the artifact's own is used",
    "no-actor-mask": (
        "paths name neither actor nor critic; all leaves count as one exploring network"
    ),
}
"""Features that may be missing, and how the optimizer behaves without them."""


def options_without(
    missing: str, config: PPOConfig, options: dict[str, Any]
) -> dict[str, Any]:
    """Return the options of `pretrained` that an agent without a feature gives.

    Args:
        missing: A key of `FEATURES`.
        config: Configuration of the run.
        options: The options of an agent that has all features.

    Raises:
        ValueError: The feature is unknown.

    Example:
        >>> options_without("no-horizon", PPOConfig(), {"horizon": None, "seed": 1})
        {'seed': 1}
    """
    if missing not in FEATURES:
        raise ValueError(
            f"{missing!r} is not a feature; choose one of {', '.join(FEATURES)}"
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
    """Return an optimizer whose ``update`` ignores ``dormancy=``.

    Args:
        optimizer: Any optax transformation.

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
