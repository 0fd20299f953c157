"""Measure what an optimizer does in the course of a run.

The measures are the cosine of the update with the gradient and with its momenta, the
sizes of the update and of its noise relative to the parameters, and dormant neurons.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl import agents, envs
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.agents.ppo import make_loop
from learned_opt_rl.checks import as_names
from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.runs.program import dormant_share, without_nan
from learned_opt_rl.evaluation.runs.rules import resolve
from learned_opt_rl.evaluation.runs.run import Overall
from learned_opt_rl.features import DECAYS, init_momenta, update_momenta
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.progress import output
from learned_opt_rl.rundir.provenance import provenance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMPARED = ("gradient", *(f"momentum {decay:g}" for decay in DECAYS))
"""The directions that an update is compared with."""

_RECORDS = "analysis.jsonl"
_BY_NETWORK = ("relative_update", "relative_noise", "dormant")
_FIELDS = {"rule": str, "environment": str, "curve": list, "cosine": dict} | (
    dict.fromkeys(_BY_NETWORK, dict)
)
_TITLES = {
    "cosine": "cos(step, {})",
    "relative_update": "{}: update / parameters",
    "relative_noise": "{}: noise / parameters",
    "dormant": "{}: dormant neurons",
}
# Any constant that changes many bits of a key gives other noise; this one is 2**32
# divided by the golden ratio, which flips about half of them.
_OTHER_BITS = 0x9E3779B9


def diagnose(
    rules: str | Sequence[str],
    environment: str,
    total_timesteps: float,
    seeds: int | Sequence[int],
    folder: pathlib.Path,
    *,
    stream: TextIO | None = None,
) -> list[pathlib.Path]:
    """Analyze rules and write the records and a picture into a folder.

    The rules are names for `rules.resolve`, the environment one for `envs.make`. The
    records are added to the folder's ``analysis.jsonl``; the picture has all records of
    the environment. Progress goes to ``stream``, standard error by default. Returns the
    paths of the records and of the picture.
    """
    rules = as_names(rules)
    records, picture = folder / _RECORDS, f"{environment.replace('/', '_')}.png"
    envs.make(environment)
    config = agents.preset(environment, total_timesteps)
    for rule in rules:
        resolve(rule, config, environment)
    kept = [len(record["curve"]) for record in _of(environment, records)]
    _check_lengths({*kept, config.num_rollouts})
    overall = Overall(len(rules), output(stream))
    for rule in rules:
        jsonl.append(records, analyze(rule, environment, config, seeds))
        overall.ended()
    plot(_of(environment, records), folder / picture)
    return [records, folder / picture]


def _of(environment: str, path: pathlib.Path) -> list[Record]:
    records = jsonl.read(path)
    for number, record in enumerate(records, 1):
        for field, kind in _FIELDS.items():
            if not isinstance(record.get(field), kind):
                raise ValueError(
                    f"{path}: record {number} has no valid {field!r}, so "
                    "`diagnose` did not write it; name another folder (--out)"
                )
    return [one for one in records if one["environment"] == environment]


def analyze(
    rule: str, environment: str, config: PPOConfig, seeds: int | Sequence[int]
) -> list[Record]:
    """Train one agent per seed and measure the last update of each rollout.

    A number of seeds stands for the seeds from 0. A seed's run equals that of `run.run`
    up to rounding. Each seed gives a JSON-able record. Its lists have one value per
    rollout, None where there is none: ``curve`` (returns), ``cosine`` by `COMPARED`,
    and by network ``relative_update``, ``relative_noise`` and ``dormant``.

    References:
        Goldie et al. 2024, appendix F. The paper divides each update by its parameter
        and takes the mean, which is infinite where a parameter is 0, as biases are at
        first; here the root mean squares are divided.
    """
    numbers = range(seeds) if isinstance(seeds, int) else seeds
    if not numbers:
        raise ValueError(f"seeds={seeds!r} is empty; give at least one, as in [0]")
    env = envs.make(environment)
    chosen = resolve(rule, config, env.name)

    def train(key: jax.Array) -> tuple[jax.Array, Diagnostics]:
        rule_key, train_key = jax.random.split(key)
        optimizer = diagnosed(chosen.optimizer(rule_key))
        start, iterate = make_loop(config, env, optimizer, drift=chosen.drift)

        def step(runner: Any, _: None) -> Any:
            runner = iterate(runner)
            return runner, (without_nan(runner.mean_return), runner.opt_state.last)

        runner = start(train_key)
        return jax.lax.scan(step, runner, length=config.num_rollouts)[1]

    compiled = jax.jit(train)
    made = []
    for seed in numbers:
        curve, found = jax.device_get(compiled(jax.random.key(seed)))
        about = {
            "rule": rule,
            "environment": env.name,
            "seed": int(seed),
            "total_timesteps": config.total_timesteps,
            "curve": jsonl.numbers(curve),
        }
        setup = {**provenance(), "config": dataclasses.asdict(config)}
        made.append(about | _lists(found) | setup)
    return made


def _lists(found: "Diagnostics") -> Record:
    columns = zip(COMPARED, found.cosine.T, strict=True)
    return {"cosine": {name: jsonl.numbers(column) for name, column in columns}} | {
        field: {k: jsonl.numbers(v) for k, v in getattr(found, field).items()}
        for field in _BY_NETWORK
    }


class Diagnostics(NamedTuple):
    """Measures of one update; a dict is by network, as the parameters are."""

    # float32 [7], of the step (the update, descending) with the gradient and with its
    # six momenta, over all parameters together
    cosine: jax.Array
    # Root mean square of the update without noise, over that of the parameters.
    relative_update: dict[str, jax.Array]
    # Root mean square of the noise, over that of the parameters.
    relative_noise: dict[str, jax.Array]
    dormant: dict[str, jax.Array]  # share of dormant neurons; NaN if not given


class DiagnosedState(NamedTuple):
    """State of `diagnosed`."""

    inner: Any
    momenta: Any  # per leaf [*shape, 6] float32
    last: Diagnostics  # measures of the last update


def diagnosed(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Return an optimizer that measures each of its updates, of a dict of networks.

    The optimizer runs twice, the second time with another random key in its state: two
    updates that differ only in their noise show how much of them is noise. This costs
    more than twice as much.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> DiagnosedState:
        nothing = {name: jnp.float32(jnp.nan) for name in params}
        return DiagnosedState(
            optimizer.init(params),
            jax.tree.map(init_momenta, params),
            Diagnostics(jnp.full(7, jnp.nan), nothing, nothing, nothing),
        )

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        before, grads = cast(DiagnosedState, state), updates
        momenta = jax.tree.map(lambda g, m: update_momenta(m, g), grads, before.momenta)
        updates, inner = optimizer.update(grads, before.inner, params, **extra)
        again, _ = optimizer.update(grads, _other_noise(before.inner), params, **extra)
        found = _diagnostics(updates, again, grads, momenta, params, extra)
        return updates, DiagnosedState(inner, momenta, found)

    return optax.GradientTransformationExtraArgs(init, update)


def _other_noise(state: Any) -> Any:
    """Change the random keys of a state, which are the leaves named ``key``."""

    def change(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        named = isinstance(path[-1], jax.tree_util.GetAttrKey) if path else False
        if named and path[-1].name == "key":
            return leaf ^ jnp.uint32(_OTHER_BITS)
        return leaf

    return jax.tree_util.tree_map_with_path(change, state)


def _diagnostics(
    updates: Any, again: Any, grads: Any, momenta: Any, params: Any, extra: Any
) -> Diagnostics:
    seen = extra.get("dormancy") or {}
    spread = {name: _spread(updates[name], again[name]) for name in updates}
    # Parameters may all be zero.
    size = {name: jnp.maximum(_rms(params[name]), 1e-12) for name in updates}
    step = -_flat(updates)
    banks = jnp.concatenate(
        [m.reshape(-1, m.shape[-1]).T for m in jax.tree.leaves(momenta)], axis=1
    )
    others = jnp.concatenate([_flat(grads)[None], banks])
    return Diagnostics(
        cosine=jax.vmap(lambda other: _cosine(step, other))(others),
        relative_update={name: spread[name][0] / size[name] for name in updates},
        relative_noise={name: spread[name][1] / size[name] for name in updates},
        dormant={name: dormant_share(seen.get(name)) for name in updates},
    )


def _spread(one: Any, other: Any) -> tuple[jax.Array, jax.Array]:
    """Return root mean squares: of the common part of two updates, and of their noise.

    The product of two updates with independent noise is, on average, the square of
    their common part. Half the square of their difference is the square of the noise.
    """
    a, b = _flat(one), _flat(other)
    shared = jnp.sqrt(jnp.maximum(jnp.mean(a * b), 0.0))
    return shared, jnp.sqrt(jnp.mean(jnp.square(a - b)) / 2)


def _flat(tree: Any) -> jax.Array:
    return jnp.concatenate(
        [x.astype(jnp.float32).ravel() for x in jax.tree.leaves(tree)]
    )


def _rms(tree: Any) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(_flat(tree))))


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    # A zero vector has no direction: NaN.
    return a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b))


@figures.plain_style()
def plot(records: Iterable[Record], path: str | pathlib.Path) -> None:
    """Draw records of one environment as a PNG, one line per rule."""
    figure = figures.new_figure(13, 10)
    groups: dict[str, list[Record]] = {}
    records = list(records)
    for record in records:
        groups.setdefault(record["rule"], []).append(record)
    environments = {record["environment"] for record in records}
    if len(environments) != 1:
        raise ValueError(
            f"rows must have one environment, not {sorted(environments) or 'none'}; "
            "draw one picture for each"
        )
    _check_lengths({len(record["curve"]) for record in records})
    networks = sorted(records[0]["dormant"])
    titles = [("curve", None), *(("cosine", name) for name in COMPARED)]
    for field in _BY_NETWORK:
        titles += [(field, network) for network in networks]
    panels = figure.subplots(4, 4).ravel()
    for axes, (field, key) in zip(panels, titles, strict=False):
        for rule, group in groups.items():
            _line(axes, [row[field][key] if key else row[field] for row in group], rule)
        axes.set_title(_TITLES.get(field, "return").format(key), fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
        if field.startswith("relative") and _positive(axes):
            axes.set_yscale("log")
    for axes in panels[len(titles) :]:
        axes.set_axis_off()
    panels[0].legend(frameon=False, fontsize="small")
    figure.suptitle(environments.pop())
    figure.supxlabel("rollouts")
    figures.save(figure, path)


def _check_lengths(lengths: set[int]) -> None:
    if len(lengths) > 1:
        raise ValueError(
            f"rows of {', '.join(map(str, sorted(lengths)))} rollouts do not fit into "
            "one figure; write runs of another length to a separate folder (--out)"
        )


def _line(axes: "Axes", values: list[list[float | None]], label: str) -> None:
    """Draw the mean over the seeds that have a value."""
    array = np.array(values, float)
    known = np.isfinite(array)
    total = np.where(known, array, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        axes.plot(total / known.sum(axis=0), label=label, lw=1)


def _positive(axes: "Axes") -> bool:
    shown = [np.asarray(line.get_ydata(), float) for line in axes.get_lines()]
    return any((y[np.isfinite(y)] > 0).any() for y in shown)
