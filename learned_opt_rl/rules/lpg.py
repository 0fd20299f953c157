"""LPG: a learned update rule that gives an agent targets for policy and predictions.

There is no advantage and no value function. A recurrent network reads a rollout
backward. For every step it returns a target for the log-probability of the action
(pi_hat) and one for the agent's prediction (y_hat). The rule decides what the m
components of a prediction y mean.

References:
    Oh, Hessel, Czarnecki, Xu, van Hasselt, Singh and Silver, 2020: "Discovering
    Reinforcement Learning Algorithms".
    Jackson et al., 2023: "Discovering General Reinforcement Learning Algorithms with
    Adversarial Environment Design" (GROOVE).
    Jackson et al., 2024: "Discovering Temporally-Aware Reinforcement Learning
    Algorithms" (lifetime inputs).

Example:
    >>> import jax, jax.numpy as jnp
    >>> from learned_opt_rl.rules import lpg
    >>> architecture = lpg.Architecture(width=32)
    >>> weights = lpg.init(jax.random.key(0), architecture)
    >>> rule = lpg.update_rule(weights, architecture)
    >>> rewards, dones = jnp.ones((2, 5)), jnp.zeros((2, 5), bool)
    >>> probs, y = jnp.full((2, 5), 0.5), jnp.full((2, 5, 8), 1 / 8)
    >>> loss, metrics = rule.loss(rewards, dones, probs, y, y)
    >>> loss.shape
    ()
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import jax
import jax.numpy as jnp

from learned_opt_rl import artifacts
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.families.lpg import Architecture, Sign, lpg_shapes
from learned_opt_rl.rules import _lpg as network
from learned_opt_rl.rules._core.artifact import require_algorithm
from learned_opt_rl.rules._core.weights import Weights, as_float32, draw_weights

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Bool, Float

__all__ = [
    "Architecture",
    "EPS",
    "LossMetrics",
    "Targets",
    "UpdateRule",
    "Weights",
    "from_artifact",
    "init",
    "pretrained",
    "update_rule",
]
__dir__ = __all__.copy


EPS = 1e-8
"""Added to probabilities before their logarithm."""

TD_LAMBDA = 0.95
"""Lambda of the values of LPG-V. Oh et al. do not give it; our choice is GAE's."""


def init(key: jax.Array, architecture: Architecture) -> Weights:
    """Return random weights, as a starting point for training.

    They are a nested dict of float32 arrays, drawn as by ``open_rl.init``.

    Example:
        >>> weights = init(jax.random.key(0), Architecture())
        >>> sum(leaf.size for leaf in jax.tree.leaves(weights))
        203946
    """
    return draw_weights(key, lpg_shapes(architecture))


class Targets(NamedTuple):
    """The targets that a rule gives an agent.

    Attributes:
        pi_hat: float32 ``[B, T]``, weights of the log-probabilities of the actions.
            ``architecture.policy_sign`` says whether agents descend or ascend them.
        y_hat: float32 ``[B, T, m]``, the prediction to learn. It sums to 1 over m if
            ``architecture.prediction`` is ``"categorical"``. Of values it is the target
            of TD(lambda), which no weight moves.
    """

    pi_hat: jax.Array
    y_hat: jax.Array


class LossMetrics(NamedTuple):
    """The parts of a loss.

    Attributes:
        policy_loss: float32 scalar, the part that moves the policy.
        kl: float32 ``[B, T]``, D_KL(y || y_hat), or the squared distance of
            predictions that are not categorical.
        pi_l2: float32 scalar, mean of pi_hat squared.
        y_l2: float32 scalar, mean squared norm of y_hat.
    """

    policy_loss: jax.Array
    kl: jax.Array
    pi_l2: jax.Array
    y_l2: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class UpdateRule:
    """LPG with given weights: a pytree, whose leaves are the weights.

    Rollouts are ``[B, T]``: B workers, T steps in order of time. Weights may be
    traced: grad in the rule and vmap over a population of rules work.

    Attributes:
        weights: Nested dict of float32 arrays (``init``, or an artifact's).
        architecture: Sizes and conventions of the weights.
    """

    weights: Weights
    architecture: Architecture = dataclasses.field(metadata={"static": True})

    def __repr__(self) -> str:
        count = sum(jnp.size(leaf) for leaf in jax.tree.leaves(self.weights))
        return f"<update rule of {count:,} parameters: {self.architecture}>"

    def targets(
        self,
        rewards: Float[ArrayLike, "b t"],
        dones: Bool[ArrayLike, "b t"],
        probs: Float[ArrayLike, "b t"],
        y: Float[ArrayLike, "b t m"],
        y_next: Float[ArrayLike, "b t m"],
        *,
        gamma: Float[ArrayLike, ""] | None = None,
        step: Float[ArrayLike, ""] | None = None,
        lifetime: Float[ArrayLike, ""] | None = None,
    ) -> Targets:
        """Run the network on a rollout.

        Nothing is detached here; `loss` detaches its inputs.

        Args:
            rewards: The rewards.
            dones: Whether the episode ended at this step.
            probs: Probability of the action taken, the input of the network.
            y: The agent's predictions; categorical ones sum to 1.
            y_next: The predictions for the next observations; ignored where ``dones``.
            gamma: The discount, for ``gamma_input`` and values; else ignored.
            step: Updates the agent has made, for ``lifetime_inputs``; else ignored.
            lifetime: Updates the agent will make in total; like ``step``.

        Raises:
            WeightsError: The weights do not fit the architecture.
            ValueError: An array has another shape, or a scalar is missing.

        References:
            Oh et al. 2020, sections 3.1 and B.1.
        """
        network.check_weights(self.weights, self.architecture)
        network.require_rollout(
            {"rewards": rewards, "dones": dones, "probs": probs},
            {"y": y, "y_next": y_next},
            self.architecture.target_width,
        )
        done = jnp.asarray(dones).astype(bool)
        reward, prob, y, y_next = (
            jnp.asarray(x, jnp.float32) for x in (rewards, probs, y, y_next)
        )
        scalars = network.scalar_inputs(self.architecture, gamma, step, lifetime)
        weights = as_float32(self.weights)
        x = network.core_inputs(weights, reward, done, prob, y, y_next, *scalars)
        hidden = network.run_core(weights, x, done)
        pi_hat = network.policy_head(weights, hidden)
        if self.architecture.prediction == "value":
            gamma = network.scalar("gamma", gamma)
            following = y_next[..., 0]
            found = network.lambda_returns(reward, done, following, gamma, TD_LAMBDA)
            return Targets(pi_hat, found[..., None])
        return Targets(pi_hat, self.predict(network.target_head(weights, hidden)))

    def predict(self, outputs: Float[Array, "*n m"]) -> Float[Array, "*n m"]:
        """Turn a network's outputs into predictions: softmax, if categorical."""
        bounded = self.architecture.prediction == "categorical"
        return jax.nn.softmax(outputs) if bounded else outputs

    def loss(
        self,
        rewards: Float[ArrayLike, "b t"],
        dones: Bool[ArrayLike, "b t"],
        probs: Float[ArrayLike, "b t"],
        y: Float[ArrayLike, "b t m"],
        y_next: Float[ArrayLike, "b t m"],
        *,
        alpha_y: float = 0.5,
        targets: Targets | None = None,
        baseline: Float[ArrayLike, "b t"] | None = None,
        gamma: Float[ArrayLike, ""] | None = None,
        step: Float[ArrayLike, ""] | None = None,
        lifetime: Float[ArrayLike, ""] | None = None,
    ) -> tuple[Float[Array, ""], LossMetrics]:
        """Return the loss that an agent descends in its ``probs`` and ``y``.

        With p = probs + EPS it is the mean of log p * pi_hat, negated in a rule whose
        sign is ``"ascend"``, plus ``alpha_y`` times the mean of D_KL(y || y_hat), or of
        the squared distance of predictions that are not categorical.

        The arguments are those of `targets` and these. Means are over B and T.

        - ``alpha_y``: Weight of the prediction.
        - ``targets``: Targets computed beforehand. By default they are computed here
          from detached inputs, so that neither the agent's gradient nor a
          meta-gradient passes through ``probs`` and ``y`` as inputs of the network.
          For a meta-gradient through them, compute the targets outside the function
          whose gradient the agent takes.
        - ``baseline``: An action-independent f(s), subtracted from pi_hat and fitted to
          it. A meta-gradient passes through pi_hat in the policy's part, but not
          through the fit.

        Raises:
            WeightsError: As for `targets`.
            ValueError: As for `targets`; or ``baseline`` or ``targets`` have another
                shape than the rollout.

        References:
            Oh et al. 2020, equations 2 and 7.
        """
        p = jnp.asarray(probs, jnp.float32) + EPS
        y = jnp.asarray(y, jnp.float32)
        if targets is None:
            detached = jax.lax.stop_gradient((p, y, jnp.asarray(y_next)))
            scalars: dict[str, Any] = dict(gamma=gamma, step=step, lifetime=lifetime)
            targets = self.targets(rewards, dones, *detached, **scalars)
        network.require_targets(targets, p, y)
        pi_hat, y_hat = targets
        weight, regression = pi_hat, jnp.float32(0)
        if baseline is not None:
            network.require_shape("baseline", baseline, pi_hat.shape)
            baseline = jnp.asarray(baseline)
            weight = pi_hat - jax.lax.stop_gradient(baseline)
            error = baseline - jax.lax.stop_gradient(pi_hat)
            regression = jnp.mean(error**2) / 2
        sign = 1 if self.architecture.policy_sign == "descend" else -1
        policy_loss = sign * jnp.mean(jnp.log(p) * weight)
        distance = (y - y_hat) ** 2
        if self.architecture.prediction == "categorical":
            distance = y * (jnp.log(y + EPS) - jnp.log(y_hat + EPS))
        kl = jnp.sum(distance, axis=-1)
        return policy_loss + alpha_y * jnp.mean(kl) + regression, LossMetrics(
            policy_loss=policy_loss,
            kl=kl,
            pi_l2=jnp.mean(pi_hat**2),
            y_l2=jnp.mean(jnp.sum(y_hat**2, axis=-1)),
        )

    def with_policy_sign(self, policy_sign: Sign) -> UpdateRule:
        """Return the rule with the same loss whose agents ``policy_sign`` pi_hat.

        Raises:
            ValueError: The sign is neither ``"descend"`` nor ``"ascend"``.
        """
        _require_sign(policy_sign)
        if policy_sign == self.architecture.policy_sign:
            return self
        negated = jax.tree.map(lambda w: -w, self.weights["policy"])
        return UpdateRule(
            {**self.weights, "policy": negated},
            dataclasses.replace(self.architecture, policy_sign=policy_sign),
        )


def update_rule(weights: Weights, architecture: Architecture) -> UpdateRule:
    """Return LPG with given weights, checked against their architecture.

    Raises:
        WeightsError: The weights do not fit the architecture.

    Example:
        >>> architecture = Architecture(width=32)
        >>> rule = update_rule(init(jax.random.key(0), architecture), architecture)
    """
    network.check_weights(weights, architecture)
    return UpdateRule(weights, architecture)


def from_artifact(
    artifact: artifacts.Artifact, *, policy_sign: Sign | None = None
) -> UpdateRule:
    """Return the update rule of an artifact.

    ``policy_sign`` is the convention of your agent, if it uses ``targets`` itself:
    weights of the other convention are refused. `UpdateRule.loss` handles both.

    Raises:
        ArtifactError: The artifact is of another algorithm or of the other sign.
        WeightsError: Its weights do not fit the architecture on its card.
        ValueError: ``policy_sign`` is neither ``"descend"`` nor ``"ascend"``.
    """
    require_algorithm(artifact, "lpg")
    card = artifact.card
    fields: dict[str, Any] = dict(card.architecture)
    rule = update_rule(artifact.weights, Architecture(**fields))
    if policy_sign is None:
        return rule
    _require_sign(policy_sign)
    found = rule.architecture.policy_sign
    if found != policy_sign:
        raise ArtifactError(
            f"policy_sign={policy_sign!r}: agents {found} the pi_hat of "
            f"'{card.name}', the opposite. Convert the rule with "
            f"lpg.from_artifact(artifact).with_policy_sign({policy_sign!r})"
        )
    return rule


def pretrained(
    name: str, *, fetch: bool = False, policy_sign: Sign | None = None
) -> UpdateRule:
    """Return a pretrained LPG by name, as ``rules.pretrained`` does.

    Example:
        >>> pretrained("minatar")
        Traceback (most recent call last):
            ...
        learned_opt_rl.errors.ArtifactError: artifact 'minatar' is of algorithm 'open',
        not 'lpg'; use learned_opt_rl.pretrained('minatar')
    """
    artifact = artifacts.load(name, fetch=fetch)
    return from_artifact(artifact, policy_sign=policy_sign)


def _require_sign(policy_sign: Any) -> None:
    if policy_sign not in get_args(Sign):
        raise ValueError(
            f"policy_sign={policy_sign!r} must be 'descend' or 'ascend', the direction "
            "in which agents follow log pi * pi_hat"
        )
