"""Measure what scales per layer and phase of the run do to a learned optimizer.

    python -m bench.scales --out results/scales

Each variant multiplies the updates of ``minatar`` by a factor in one kind of layer, in
one half of the run, or in all of both. The command compares the variants on MinAtar and
prints each one's mean return relative to the unchanged optimizer's. To resume an
interrupted command, repeat it.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from learned_opt_rl import Horizon, evaluation, open_rl

FACTORS = (0.6, 1.7)


def main(argv: Sequence[str] | None = None) -> None:
    """Compare all variants."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=float, default=1e6)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--only", nargs="*", help="names of variants")
    options = parser.parse_args(argv)
    chosen = variants()
    if options.only:
        chosen = {name: chosen[name] for name in ("minatar", *options.only)}
    report = evaluation.compare(
        chosen,
        suite="minatar",
        seeds=options.seeds,
        first_seed=options.first_seed,
        total_timesteps=options.steps,
        out=options.out,
        baseline="minatar",
        normalization="rule:minatar",
        at_once=1,
    )
    means = report.frame.groupby(["rule", "environment"])["final_return"].mean()
    relative = means.unstack() / means["minatar"]
    relative["mean"] = relative.mean(axis="columns")
    print(relative.sort_values("mean").round(2).to_string())


def variants() -> dict[str, Any]:
    """Return the unchanged optimizer, ``...``, and a function for each variant."""
    made: dict[str, Any] = {"minatar": ...}
    for factor in FACTORS:
        constant = optax.scale(factor)
        made |= {
            f"all x {factor}": _then(lambda _, c=constant: c),
            f"first layer x {factor}": _then(lambda _, c=constant: _in("Dense_0", c)),
            f"heads x {factor}": _then(lambda _, c=constant: _in("Dense_2", c)),
            f"critic x {factor}": _then(lambda _, c=constant: _in("critic", c)),
            f"first half x {factor}": _then(_halves(factor, 1.0)),
            f"second half x {factor}": _then(_halves(1.0, factor)),
        }
    return made


def _then(
    scale: Callable[[Horizon], optax.GradientTransformation],
) -> Callable[[Horizon], optax.GradientTransformation]:
    """Return ``horizon -> minatar`` with scaled updates."""

    def make(horizon: Horizon) -> optax.GradientTransformation:
        rule = open_rl.pretrained("minatar", horizon=horizon, seed=0)
        return optax.chain(rule, scale(horizon))

    return make


def _halves(
    first: float, second: float
) -> Callable[[Horizon], optax.GradientTransformation]:
    def scale(horizon: Horizon) -> optax.GradientTransformation:
        half = horizon.total_updates // 2
        jump = optax.piecewise_constant_schedule(first, {half: second / first})
        return optax.scale_by_schedule(jump)

    return scale


def _in(part: str, scale: optax.GradientTransformation) -> optax.GradientTransformation:
    """Apply a transformation to the leaves whose path contains ``part``."""

    def mask(params: optax.Params) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: part in jax.tree_util.keystr(path), params
        )

    return optax.masked(scale, mask)


if __name__ == "__main__":
    main()
