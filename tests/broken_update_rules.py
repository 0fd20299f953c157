"""Update rules that each break the contract in one way, and what catches it.

All are a small LPG but for the fault. ``UPDATE_RULES`` maps the fault to the checks
that must fail, no others, and to words of the first one's reason.
"""

import jax
import jax.numpy as jnp

from learned_opt_rl.rules.lpg import UpdateRule
from tests.broken_rules import Broken
from tests.rules import lpg_cases

UPDATE_RULES: dict[str, Broken] = {}


def breaks(*checks, words=""):
    """Register a class under the checks that find it out; the first one tells."""

    def register(cls):
        def make():
            sound = lpg_cases.rule()
            return cls(sound.weights, sound.architecture)

        UPDATE_RULES[cls.__name__] = Broken(make, checks, words)
        return cls

    return register


@breaks("gives_targets", words="the sum of y_hat differs by 1")
class PredictsTwiceTooMuch(UpdateRule):
    def targets(self, *rollout, **scalars):
        pi_hat, y_hat = super().targets(*rollout, **scalars)
        return pi_hat, 2 * y_hat


@breaks("gives_targets", words="pi_hat is float32[3,6,1], that of the rewards is")
class KeepsAnAxis(UpdateRule):
    def targets(self, *rollout, **scalars):
        pi_hat, y_hat = super().targets(*rollout, **scalars)
        return pi_hat[..., None], y_hat


@breaks("gives_targets", words="it raised TypeError")
class WantsValues(UpdateRule):
    def targets(self, *rollout, values, **scalars):
        return super().targets(*rollout, **scalars)


@breaks("episodes_are_apart", words="with other rewards later, the targets")
class LooksPastTheEnd(UpdateRule):
    def targets(self, rewards, dones, *rest, **scalars):
        return super().targets(rewards, jnp.zeros_like(dones), *rest, **scalars)


@breaks("workers_are_apart", words="alone, the first worker's targets")
class ComparesWorkers(UpdateRule):
    def targets(self, *rollout, **scalars):
        pi_hat, y_hat = super().targets(*rollout, **scalars)
        return pi_hat - jnp.mean(pi_hat, axis=0, keepdims=True), y_hat


@breaks("agent_gradient", words="by the probabilities or by the predictions is 0")
class ForgetsThePolicy(UpdateRule):
    def loss(self, rewards, dones, probs, *rest, **options):
        fixed = jax.lax.stop_gradient(probs)
        return super().loss(rewards, dones, fixed, *rest, **options)


@breaks("agent_gradient", words="the gradient by the agent's outputs")
class LosesItself(UpdateRule):
    def loss(self, *rollout, **options):
        loss, metrics = super().loss(*rollout, **options)
        return loss / 0, metrics
