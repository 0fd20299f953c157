r"""What an optimiser does in the course of a run.

The analyses of the papers: the cosine of the update with the gradient and its momenta,
the sizes of the update and of its noise relative to the parameters', dormant neurons.
As in::

    python -m learned_opt_rl.evaluation.diagnostics --rules minatar adam \
        --environment Breakout-MinAtar --steps 1e6 --out analysis
"""

import argparse
import pathlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from learned_opt_rl import agents, envs
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.agents.ppo import make_loop
from learned_opt_rl.evaluation._diagnosed import Diagnostics as Diagnostics
from learned_opt_rl.evaluation._diagnosed import diagnosed as diagnosed
from learned_opt_rl.evaluation.command import one_line_errors
from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.runs.rules import resolve
from learned_opt_rl.features import DECAYS
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.jsonl import Row
from learned_opt_rl.rundir.provenance import provenance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMPARED = ("gradient", *(f"momentum {decay:g}" for decay in DECAYS))
"""What the update's direction is compared with."""


def analyse(
    rule: str, environment: str, config: PPOConfig, seeds: Sequence[int]
) -> list[Row]:
    """Trains an agent per seed and measures the last update of each rollout.

    Args:
        rule: A name for `optimizers.resolve`.
        environment: A name for `envs.make`.
        config: The run.
        seeds: One agent each, one after the other. A seed's run is that of `run.run`
            up to rounding.

    Returns:
        One JSON-able row per seed. Its lists have one value per rollout, ``None`` where
        there is none: ``curve`` (returns), ``cosine`` by `COMPARED`, and by network
        ``relative_update``, ``relative_noise`` and ``dormant``.

    Raises:
        ValueError: If a name is unknown or there are no seeds.

    References:
        Goldie et al. 2024, appendix F. The paper divides each update by its parameter
        and takes the mean, which is infinite where a parameter is 0, as biases are at
        first; here it is root mean square over root mean square.

    Example:
        >>> config = PPOConfig(512, num_envs=4, num_steps=32, minibatches=4)
        >>> (row,) = analyse("adam:1e-3", "CartPole-v1", config, seeds=[0])
        >>> len(row["cosine"]["gradient"]), row["relative_noise"]["actor"][0]
        (4, 0.0)
    """
    if not seeds:
        raise ValueError(f"seeds={seeds!r} is empty; give at least one, as in [0]")
    env = envs.make(environment)
    chosen = resolve(rule, config, env.name)

    def train(key: jax.Array) -> tuple[jax.Array, Diagnostics]:
        rule_key, train_key = jax.random.split(key)
        optimizer = diagnosed(chosen.optimizer(rule_key))
        start, iterate = make_loop(config, env, optimizer, drift=chosen.drift)

        def step(runner: Any, _: None) -> Any:
            runner = iterate(runner)
            return runner, (runner.mean_return, runner.opt_state.last)

        runner = start(train_key)
        return jax.lax.scan(step, runner, length=config.num_rollouts)[1]

    compiled = jax.jit(train)
    shared = {**provenance(), "config": asdict(config)}
    rows = []
    for seed in seeds:
        curve, found = jax.device_get(compiled(jax.random.key(seed)))
        rows.append(
            {
                "rule": rule,
                "environment": env.name,
                "seed": int(seed),
                "total_timesteps": config.total_timesteps,
                "curve": _finite(curve),
                "cosine": {
                    name: _finite(found.cosine[:, i]) for i, name in enumerate(COMPARED)
                },
                **{
                    field: {k: _finite(v) for k, v in getattr(found, field).items()}
                    for field in ("relative_update", "relative_noise", "dormant")
                },
                **shared,
            }
        )
    return rows


def _finite(values: np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def plot(rows: Iterable[Row], path: str | pathlib.Path) -> None:
    """Draws analyses of one environment as a PNG, a line per rule.

    Args:
        rows: From `analyse`.
        path: The file to write.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ValueError: If there are no rows, or they are of several environments or
            lengths.

    Example:
        >>> plot([], "none.png")
        Traceback (most recent call last):
        ...
        ValueError: rows must be of one environment, got none; draw one picture for each
    """
    figure = figures.new_figure(13, 10)
    groups = jsonl.grouped(rows)
    environments = {environment for _, environment in groups}
    if len(environments) != 1:
        raise ValueError(
            f"rows must be of one environment, got {sorted(environments) or 'none'}; "
            "draw one picture for each"
        )
    _check_lengths({_length(row) for group in groups.values() for row in group})
    panels = figure.subplots(4, 4).ravel()
    networks = sorted(next(iter(groups.values()))[0]["dormant"])
    titles = [("curve", None), *(("cosine", name) for name in COMPARED)]
    for field in ("relative_update", "relative_noise", "dormant"):
        titles += [(field, network) for network in networks]
    for axes, (field, key) in zip(panels, titles, strict=False):
        for (rule, _), group in groups.items():
            _line(axes, [row[field][key] if key else row[field] for row in group], rule)
        axes.set_title(_title(field, key), fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
        if field.startswith("relative") and _positive(axes):
            axes.set_yscale("log")
    for axes in panels[len(titles) :]:
        axes.set_axis_off()
    panels[0].legend(frameon=False, fontsize="small")
    figure.suptitle(environments.pop())
    figure.supxlabel("rollouts")
    figures.save(figure, path)


def _of(environment: str, path: pathlib.Path) -> list[Row]:
    return [row for row in jsonl.read(path) if row["environment"] == environment]


def _length(row: Row) -> int:
    return len(row["curve"])


def _check_lengths(lengths: set[int]) -> None:
    if len(lengths) > 1:
        raise ValueError(
            f"rows of {', '.join(map(str, sorted(lengths)))} rollouts are not drawn in "
            "one picture; keep runs of another length in a folder of their own (--out)"
        )


def _title(field: str, key: str | None) -> str:
    if key is None:
        return "return"
    names = {
        "cosine": "cos(step, {})",
        "relative_update": "{}: update / parameters",
        "relative_noise": "{}: noise / parameters",
        "dormant": "{}: dormant neurons",
    }
    return names[field].format(key)


def _line(axes: "Axes", values: list[list[float | None]], label: str) -> None:
    """The mean over seeds, as far as there are values."""
    array = np.array(values, float)
    known = np.isfinite(array)
    total = np.where(known, array, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        axes.plot(total / known.sum(axis=0), label=label, lw=1)


def _positive(axes: "Axes") -> bool:
    shown = [np.asarray(line.get_ydata(), float) for line in axes.get_lines()]
    return any((y[np.isfinite(y)] > 0).any() for y in shown)


def main(arguments: Sequence[str] | None = None) -> None:
    """Analyses rules from the command line; see the module's description."""
    parser = argparse.ArgumentParser(
        prog="python -m learned_opt_rl.evaluation.diagnostics",
        description="Measure the updates of optimisers in the course of a run.",
    )
    add = parser.add_argument
    add("--rules", nargs="+", required=True, metavar="RULE")
    add("--environment", required=True)
    add("--steps", type=float, default=1e6, help="environment steps (default 1e6)")
    add("--seeds", type=int, default=1, help="how many seeds (default 1)")
    add("--out", type=pathlib.Path, required=True, help="folder for rows and picture")
    options = parser.parse_args(arguments)
    path = options.out / "analysis.jsonl"
    with one_line_errors(parser):
        envs.make(options.environment)
        config = agents.preset(options.environment, options.steps)
        for rule in options.rules:
            resolve(rule, config, options.environment)
        kept = [_length(row) for row in _of(options.environment, path)]
        _check_lengths({*kept, config.num_rollouts})
    for rule in options.rules:
        rows = analyse(rule, options.environment, config, range(options.seeds))
        jsonl.append(path, rows)
        print(f"{rule}: {len(rows)} seed(s) in {path}")
    picture = options.out / f"{options.environment.replace('/', '_')}.png"
    plot(_of(options.environment, path), picture)
    print(picture)


if __name__ == "__main__":
    main()
