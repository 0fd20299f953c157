"""Ablate LPG at a small scale: change one part, train rules, compare on new levels.

Run as ``python -m campaigns.lpg_ablations --out FOLDER``. Repeat the command with the
same folder to resume. Each rule is trained with several seeds and evaluated on levels
that no training draws. ``ablations.jsonl`` has a row per rule, seed and environment,
``ablations.md`` the table.

References:
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020, figures 7 and 9.
    Oh et al., "Discovering state-of-the-art reinforcement learning algorithms", 2025,
    for the options of one environment.
"""

import argparse
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from learned_opt_rl.evaluation.lpg import levels
from learned_opt_rl.evaluation.report.statistics import aggregate
from learned_opt_rl.evaluation.report.tables import Table, render
from learned_opt_rl.rules import lpg
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.checkpoint import differences
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.rundir.provenance import provenance
from learned_opt_rl.training.meta_gradients import Training, preset
from learned_opt_rl.training.meta_gradients.config import parse_settings
from learned_opt_rl.training.run_folder import read_run

ROWS, TABLE = "ablations.jsonl", "ablations.md"

ENVIRONMENTS = (
    "gridworld/small",
    "chain/short",
    "gridworld/medium",
    "chain/short_noisy",
    "gridworld/all_shortlife",
    "chain/long",
)
"""The training environments; ablations of their number take the first ones.

Their agents are tables, so one set of learning rates serves all of them.
"""

BASE: dict[str, Any] = {
    "lifetimes": 30,  # divisible by 1, 3, 5 and 6 environments
    "lifetime": 250,  # one for all, so that the numbers of environments are comparable
    "bandit": True,
    "agent_rates": (20.0, 40.0, 80.0),
    "agent_alpha_y": (0.1, 0.5, 1.0),
}
"""What differs from the preset ``lpg-cpu`` in every training."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "whole": {},
    "bandit off": {"bandit": False},
    "y unbounded": {"architecture": {"prediction": "unbounded"}},
    "no regularizers": {
        "policy_entropy": (0.0,),
        "target_entropy": 0.0,
        "policy_l2": 0.0,
        "target_l2": 0.0,
    },
    "LPG-V": {"architecture": {"prediction": "value", "target_width": 1}},
    **{
        f"{count} environment{'s' if count > 1 else ''}": {
            "environments": ENVIRONMENTS[:count]
        }
        for count in (1, 3, 5)
    },
    # On one environment, because several take minutes to compile for each option.
    **{
        f"1 environment, {option}": {"environments": ENVIRONMENTS[:1], **changes}
        for option, changes in {
            "longer validation": {"validation_rollout": 40},
            "running averages": {"advantage_decay": 0.99},
            "Adam per lifetime": {"lifetime_gradients": "adam"},
        }.items()
    },
}
"""Each ablation's changes to `BASE`."""

UNTRAINED = "untrained"


def main(argv: Sequence[str] | None = None) -> None:
    """Train and evaluate what is missing; write the rows and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=1000, help="meta-steps of a rule")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each rule")
    parser.add_argument("--levels", type=int, default=32, help="levels to evaluate on")
    parser.add_argument("--updates", type=int, help="of an agent on a level")
    parser.add_argument(
        "--environments",
        nargs="+",
        default=["gridworld/small", "gridworld/all_shortlife"],
        help="environments of these levels",
    )
    parser.add_argument(
        "--only", nargs="+", choices=[*ABLATIONS, UNTRAINED], help="ablations to run"
    )
    parser.add_argument("--set", nargs="*", default=[], help="settings of train lpg")
    arguments = parser.parse_args(argv)
    for name in ("steps", "seeds", "levels"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)} must be at least 1")
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Run every ablation with every seed, one seed of all before the next."""
    out: pathlib.Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    settings = parse_settings(arguments.set)
    trainings: dict[str, Training] = {}
    with locked(out):
        for seed in range(arguments.seeds):
            for name in arguments.only or [*ABLATIONS, UNTRAINED]:
                config = configuration(name, seed, arguments.steps, settings)
                for environment in arguments.environments:
                    chosen = levels.Levels(
                        environment, arguments.levels, 1, arguments.updates
                    )
                    if not _is_done(out / ROWS, name, config, chosen):
                        row = evaluated(name, config, chosen, out, trainings)
                        jsonl.append(out / ROWS, [row])
                    _write_table(out)


def configuration(name: str, seed: int, steps: int, settings: dict[str, Any]) -> Any:
    """Return the configuration of a training; ``settings`` are the user's."""
    changes: dict[str, Any] = {"environments": ENVIRONMENTS, **BASE, **settings}
    own = ABLATIONS.get(name, {})
    sizes = {**settings.get("architecture", {}), **own.get("architecture", {})}
    changes |= own | {"architecture": sizes, "steps": steps, "seed": seed}
    # All lifetimes of an environment side by side.
    changes["minibatch"] = changes["lifetimes"] // len(changes["environments"])
    return preset("lpg-cpu", **changes)


def evaluated(
    name: str,
    config: Any,
    chosen: levels.Levels,
    out: pathlib.Path,
    trainings: dict[str, Training],
) -> Record:
    """Train a rule if it is not trained yet; return its row on the levels.

    ``trainings`` holds each ablation's last training, for the next seed's.
    """
    place = f"{name.replace(' ', '_')}_{config.seed}"
    trained: Record = {"meta_steps": 0}
    if name == UNTRAINED:
        rule = levels.untrained(config.rule_architecture, config.seed)
        digest = None
    else:
        training = Training(config, out / place, like=trainings.get(name))
        trainings[name], last = training, training.run()
        found = read_run(out / place)
        digest = found.sha256
        rule = lpg.UpdateRule(found.weights, lpg.Architecture(**found.architecture))
        resets = [sum(row["resets"].values()) for row in found.log]
        trained = {
            "meta_steps": last["step"],
            "recent_share": last["recent_share"],
            "resets": sum(resets),
        }
    contestant = levels.of_rule(place, rule, chosen, digest)
    folder = out / "levels" / chosen.environment.replace("/", "_")
    rows = levels.run([contestant], chosen, folder)
    own = [row for row in rows if row["rule"] == place]
    return {
        "ablation": name,
        "seed": config.seed,
        "environment": chosen.environment,
        "levels": chosen.levels,
        "updates": chosen.updates,
        "share": levels.share(own),
        "area": levels.shares(own, "auc").value,
        **trained,
        "sha256": digest,
        "config": config.as_json(),
        **provenance(),
    }


def table(rows: Iterable[Record]) -> Table:
    """Return the shares of the optimal return, with intervals over the seeds."""
    rows = list(rows)
    environments = list(dict.fromkeys(row["environment"] for row in rows))
    lines: Table = [("ablation", "seeds", *environments)]
    for name in dict.fromkeys(row["ablation"] for row in rows):
        own = [row for row in rows if row["ablation"] == name]
        seeds = len({row["seed"] for row in own})
        cells = [
            _cell([row["share"] for row in own if row["environment"] == environment])
            for environment in environments
        ]
        lines.append((name, str(seeds), *cells))
    return lines


def _cell(shares: Sequence[float]) -> str:
    if not shares:
        return ""
    return levels.shown(aggregate(np.array(shares)[:, None])["mean"])


def _is_done(path: pathlib.Path, name: str, config: Any, chosen: levels.Levels) -> bool:
    """Return whether a file has a row, or raise ValueError if its settings differ."""
    one = {"ablation": name, "seed": config.seed, "environment": chosen.environment}
    wanted = {
        "levels": chosen.levels,
        "updates": chosen.updates,
        "config": config.as_json(),
    }
    for row in jsonl.read(path):
        if one.items() <= row.items():
            changed = differences({n: row.get(n) for n in wanted}, wanted)
            if changed:
                raise ValueError(
                    f"{path} has a row of {name!r} with other settings "
                    f"({'; '.join(changed)}); give another folder"
                )
            return True
    return False


def _write_table(out: pathlib.Path) -> None:
    text = render(table(jsonl.read(out / ROWS)), "github")
    write_atomically(out / TABLE, f"{text}\n".encode())


if __name__ == "__main__":
    main()
