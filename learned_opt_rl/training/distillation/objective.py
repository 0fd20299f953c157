"""The loss of a distillation: updates, slopes of a policy loss, or LPG's targets."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.rules import lpg, lpo
from learned_opt_rl.rules.drifts import Drift
from learned_opt_rl.rules.losses import policy_loss_terms
from learned_opt_rl.rules.parts import SCALE
from learned_opt_rl.training.distillation import rollouts, teachers, visited
from learned_opt_rl.training.distillation.config import DistillationConfig
from learned_opt_rl.training.distillation.inputs import SYNTHETIC, Tensors
from learned_opt_rl.training.distillation.rollouts import Rollouts
from learned_opt_rl.training.distillation.teachers import Teacher, Unrolled
from learned_opt_rl.training.learned import draw

# Points along each axis of the grid on which drifts are matched: log r in [-2, 2) and A
# in [-8, 8), the range of ratios and normalized advantages in PPO.
_GRID = 1024
_LOG_RATIOS, _ADVANTAGES = _GRID // 4, _GRID // 16  # points per unit


def _parts(found: jax.Array, target: jax.Array) -> dict[str, jax.Array]:
    error = jnp.mean((found - target) ** 2)
    return {"error": error / jnp.maximum(jnp.mean(target**2), 1e-30)}


class Objective(NamedTuple):
    """A supervised problem."""

    init: Callable[[jax.Array], Any]  # key -> weights, in the units of the fit
    deployed: Callable[[Any], Any]  # weights -> weights, in the units of the rule
    sample: Callable[[jax.Array, Any], Any]  # key, visited -> inputs
    target: Callable[[Any], Any]  # inputs -> outputs of the teacher
    student: Callable[[Any, Any], Any]  # deployed weights, inputs -> outputs
    # student's and teacher's outputs -> the parts of the loss by name
    parts: Callable[[Any, Any], dict[str, jax.Array]] = _parts
    weights: Mapping[str, float] = {"error": 1.0}  # of the parts
    check: Callable[[jax.Array, Any], Any] | None = None  # other inputs to validate on
    # rule, round -> visited inputs, whose `axis` counts them
    visit: Callable[[Any, int], Any] | None = None
    axis: int = 1

    def measured(self, weights: Any, inputs: Any) -> dict[str, jax.Array]:
        """Return the parts of the loss by name, float32 scalars.

        By default there is one, the squared error over the teacher's mean square.
        """
        return self.parts(
            self.student(self.deployed(weights), inputs), self.target(inputs)
        )

    def loss(self, weights: Any, inputs: Any) -> jax.Array:
        """Return the weighted sum of the parts, a float32 scalar."""
        found = self.measured(weights, inputs)
        return jnp.asarray(sum(self.weights[name] * x for name, x in found.items()))


def objective(config: DistillationConfig, teacher: Teacher) -> Objective:
    """Return the supervised problem of a distillation."""
    architecture = config.learned.architecture
    init = functools.partial(draw, config.algorithm, architecture)
    if config.learned.is_update_rule:
        return _of_targets(config, teacher, architecture, init)
    if teacher.drift is not None:
        return _of_drift(config, teacher.drift, architecture, init)
    unrolled = teacher.unrolled
    assert unrolled is not None
    rule = teachers.network_rule(config.algorithm, architecture.carry)
    sample = jax.jit(_sampler(config, unrolled))

    def target(inputs: Tensors) -> jax.Array:
        return unrolled.update(teacher.weights, inputs)

    moved = jax.jit(target)(sample(jax.random.key(config.seed), None))
    unit = float(jnp.sqrt(jnp.mean(moved**2))) / SCALE or 1.0

    def init_network(key: jax.Array) -> Any:
        weights = init(key)
        last = weights["mlp"]["dense_2"]
        # The gradient of a zero noise output is zero where the teacher has no noise:
        # such students stay without noise.
        last["kernel"] = last["kernel"].at[:, 1:].set(0.0)
        return weights

    def deployed(weights: Any) -> Any:
        # Weights are fitted in units of the teacher's updates, so that one learning
        # rate suits all teachers.
        last = weights["mlp"]["dense_2"]
        units = jnp.array([unit, 1.0, unit])[: last["bias"].size]
        scaled = {"kernel": last["kernel"] * units[None], "bias": last["bias"] * units}
        return {**weights, "mlp": {**weights["mlp"], "dense_2": scaled}}

    def visit(rule: Any, round_: int) -> Tensors:
        options = {"steps": config.sequence, "size": config.size}
        runs: Any = config.runs()
        return visited.visit(rule, runs, seed=config.seed + round_, **options)

    return Objective(init_network, deployed, sample, target, rule.update, visit=visit)


def _sampler(
    config: DistillationConfig, teacher: Unrolled
) -> Callable[[jax.Array, Tensors | None], Tensors]:
    """Return a sampler of inputs, with noise if the teacher uses it."""

    def sample(key: jax.Array, known: Tensors | None) -> Tensors:
        made_key, which_key, noise_key = jax.random.split(key, 3)
        seen = 0 if known is None else config.tensors // 2
        shape = config.sequence, config.tensors - seen, config.size
        kind = "correlated" if config.inputs == "visited" else config.inputs
        made = SYNTHETIC[kind](made_key, shape)
        if known is not None:
            count = known.gradient.shape[1]
            which = jax.random.randint(which_key, (seen,), 0, count)
            some = jax.tree.map(lambda x: x[:, which], known)
            made = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), made, some)
        noise = jax.random.normal(noise_key, made.gradient.shape)
        return made._replace(noise=noise if teacher.noisy else 0 * noise)

    return sample


def _of_targets(
    config: DistillationConfig,
    teacher: Teacher,
    architecture: lpg.Architecture,
    init: Callable[[jax.Array], Any],
) -> Objective:
    """Match an update rule's targets on rollouts of whole lives."""
    runs: Any = config.runs()
    anywhere: Any = next(iter(runs.items()))
    own = teacher.rule(anywhere[1], anywhere[0]).update_rule
    assert own is not None

    def visit(rule: Any, round_: int) -> Rollouts:
        acting = rule(anywhere[1], anywhere[0]).update_rule
        options = {"lives": config.seeds, "size": config.size}
        return rollouts.visit(acting, own, runs, seed=config.seed + round_, **options)

    def student(weights: Any, x: Rollouts) -> lpg.Targets:
        return rollouts.targets(lpg.UpdateRule(weights, architecture), x)

    options = {"count": config.tensors, "rounds": config.rounds}
    train, check = (
        functools.partial(rollouts.sample, held_out=held_out, **options)
        for held_out in (False, True)
    )
    categorical = architecture.prediction == "categorical"
    return Objective(
        init,
        deployed=lambda weights: weights,
        sample=train,
        target=lambda x: x.targets,
        student=student,
        parts=functools.partial(rollouts.distances, categorical=categorical),
        weights={"policy": 1.0, "target": config.target_weight},
        check=check,
        visit=visit,
        axis=0,
    )


def _of_drift(
    config: DistillationConfig,
    teacher: Drift,
    architecture: lpo.Architecture,
    init: Callable[[jax.Array], Any],
) -> Objective:
    """Match the derivative of the policy loss by the ratio, on points of a grid."""

    def slope(drift: Drift, points: tuple[jax.Array, jax.Array]) -> jax.Array:
        ratio, advantage = points

        def loss(ratio: jax.Array) -> jax.Array:
            return policy_loss_terms(ratio, advantage, drift).sum()

        return jax.grad(loss)(ratio)

    def student(weights: Any, points: tuple[jax.Array, jax.Array]) -> jax.Array:
        drift = lpo.drift(
            weights, clip_eps=architecture.clip_eps, margin=teachers.MARGIN
        )
        return slope(drift, points)

    def sample(key: jax.Array, _: Tensors | None) -> tuple[jax.Array, jax.Array]:
        shape = 2, config.tensors * config.size
        i, j = jax.random.randint(key, shape, -_GRID // 2, _GRID // 2)
        return jnp.exp(i / _LOG_RATIOS), j / _ADVANTAGES

    return Objective(
        init, lambda weights: weights, sample, lambda x: slope(teacher, x), student
    )
