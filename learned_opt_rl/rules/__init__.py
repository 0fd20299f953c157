"""Learned rules: one module for each family, all with the same functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack, overload

from learned_opt_rl import artifacts
from learned_opt_rl.rules._core.artifact import trained_horizon
from learned_opt_rl.rules._core.options import ArtifactOptions, given, lists
from learned_opt_rl.rules._core.reseed import reseed

if TYPE_CHECKING:
    import optax

    from learned_opt_rl.rules._core.names import (
        DriftName,
        OptimizerName,
        UpdateRuleName,
    )
    from learned_opt_rl.rules.drifts import Drift
    from learned_opt_rl.rules.lpg import UpdateRule

__all__ = ["pretrained", "reseed", "trained_horizon"]


# With the names of bundled artifacts, a type checker refuses a drift in optax.chain.
@overload
def pretrained(
    name: OptimizerName,
    *,
    fetch: bool = False,
    learning_rate: Any = None,
    constants: Mapping[str, Any] | None = None,
    **options: Unpack[ArtifactOptions],
) -> optax.GradientTransformationExtraArgs: ...
@overload
def pretrained(
    name: DriftName, *, fetch: bool = False, constants: Mapping[str, Any] | None = None
) -> Drift: ...
@overload
def pretrained(name: UpdateRuleName, *, fetch: bool = False) -> UpdateRule: ...
@overload
def pretrained(
    name: str,
    *,
    fetch: bool = False,
    learning_rate: Any = None,
    constants: Mapping[str, Any] | None = None,
    **options: Unpack[ArtifactOptions],
) -> Any: ...
@lists(ArtifactOptions)
def pretrained(
    name: str,
    *,
    fetch: bool = False,
    learning_rate: Any = None,
    constants: Mapping[str, Any] | None = None,
    **options: Unpack[ArtifactOptions],
) -> Any:
    """Return an artifact of any family, bundled, plugin or remote, ready to use.

    Every optimizer accepts the same options about the run, and ignores those that it
    does not use, so that rules can be swapped:

    - ``horizon``: Length of the run, a ``Horizon``; ``Horizon.ppo(...)`` computes it.
      Without one, a rule that needs it assumes the length that the artifact was trained
      for, with a ``HorizonWarning``.
    - ``networks``: Which parameters belong to which network, where the parameter paths
      do not tell; ``features.explain(params)`` prints what was read.
    - ``layers``: The order of the layers, where names and widths do not tell; see
      ``features.leaf_roles``.
    - ``seed``: Seed of the exploration noise.
    - ``key``: jax random key, in place of ``seed``.
    - ``warn_past_horizon``: Log one warning, to the logger ``learned_opt_rl``, when a
      run outlasts ``horizon``; once per process, for all agents together.
    - ``environment``: Name of the environment, for rules with a published learning rate
      for each.
    - ``zero_gradients``: What stays put, because its gradient was exactly zero since
      the start: ``"leaf"``, whole leaves (a target network, observation statistics, a
      frozen head) and rows of embeddings; ``"entry"``, every single entry; ``"move"``,
      nothing, as published.
    - ``zero_mean``: Whether to remove the update's mean over all parameters. By default
      as published, except where the parameters have no hidden layer: a value head or a
      temperature on its own could otherwise never learn. ``True`` removes it always,
      ``False`` never.

    Args:
        name: Name of the artifact, e.g. ``"minatar"``; ``learned-opt-rl list``
            shows them all.
        fetch: Download a remote artifact that is not in the cache yet.
        learning_rate: For rules that have one: a number, or for Optim4RL a schedule.
        constants: For expressions: values for the declared constants, by name.
        **options: For an optimizer those above; the family's ``from_artifact`` lists
            more.

    Returns:
        For a card of kind ``"optimizer"`` an optax transformation; for a ``"drift"`` a
        function ``(ratio, advantage) -> drift`` for ``losses.policy_loss``; for an
        ``"update_rule"`` an object with ``targets`` and ``loss``, see ``lpg``.

    Raises:
        ArtifactError: The name is unknown, or the card or the weights are unusable.
        FetchError: The artifact is remote and neither cached nor reachable.
        TypeError: An option is for optimizers, and the artifact is none.

    Example:
        >>> import learned_opt_rl
        >>> from learned_opt_rl import Horizon
        >>> tx = learned_opt_rl.pretrained("minatar", horizon=Horizon(2000))
    """
    artifact = artifacts.load(name, fetch=fetch)
    kind, chosen = artifact.card.kind, given(options)
    if chosen and kind != "optimizer":
        raise TypeError(
            f"{artifact.card.name!r} is of kind {kind}; leave out "
            f"{', '.join(chosen)}, which only optimizers take"
        )
    rule = artifacts.rule_module(artifact.card.algorithm)
    more = {"learning_rate": learning_rate, "constants": constants}
    more = {name: value for name, value in more.items() if value is not None}
    return rule.from_artifact(artifact, **chosen, **more)
