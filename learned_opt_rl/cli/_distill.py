"""Meta-training by distillation: one student of one teacher."""

import argparse
import pathlib
import sys
from typing import TYPE_CHECKING, Any

from learned_opt_rl.cli._compare import RefusedError, refusals, warnings_as_lines

if TYPE_CHECKING:
    from learned_opt_rl.training.distillation import DistillationConfig, Teacher

_FIELDS = ("teacher", "student", "steps", "sequence", "inputs", "select")
_NAMES = {"total_timesteps": "horizon"}
"""What others' fields are called here, in errors."""


def add_command(kinds: Any) -> None:
    """Adds ``train distill``."""
    distill = kinds.add_parser(
        "distill",
        help="by imitation of a teacher",
        description=(
            "Fits the weights of a learned rule to what a teacher does, an artifact or "
            "a closed form; takes minutes. The same command on the same folder tells "
            "what came out, or starts anew what was killed."
        ),
    )
    add = distill.add_argument
    add("--teacher", metavar="NAME", help="artifact, path or sign_momentum:8e-4")
    add("--preset", metavar="NAME", default="same", help="as short; default same")
    add("--student", metavar="SIZES", help="same, half, open:32, no_features:16, ...")
    add("--steps", type=int, help="of Adam")
    add("--sequence", type=int, metavar="STEPS", help="unrolled over, as 20 or 100")
    add("--inputs", metavar="KIND", help="correlated, scaled, paper or visited")
    add("--select", metavar="BY", help="error or return")
    add("--environments", nargs="+", metavar="NAME", help="where agents are trained")
    add(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="other settings, as learning_rate=1e-3 rounds=2 agent.hidden=16x16",
    )
    add("--out", type=pathlib.Path, metavar="FOLDER", required=True)
    distill.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    with warnings_as_lines(), refusals(ValueError, ImportError, options=_NAMES):
        from learned_opt_rl.training.distillation import distill

        config, teacher = _asked(options)
        try:
            best = distill(config, teacher, options.out)
        except OSError as error:
            raise RefusedError(str(error)) from error
        except KeyboardInterrupt:
            print("stopped; the same command starts anew", file=sys.stderr)
            return 130
    told = f", return {best['return']:.4g}" if best.get("return") is not None else ""
    print(
        f"best after {best['step']} steps: error {best['error']:.4g} of the teacher's "
        f"rms{told}; see {options.out}"
    )
    return 0


def _asked(options: argparse.Namespace) -> "tuple[DistillationConfig, Teacher]":
    from learned_opt_rl.agents.config import PPOConfig
    from learned_opt_rl.rundir import settings
    from learned_opt_rl.training.distillation import DistillationConfig, configure

    agent = [s.removeprefix("agent.") for s in options.set if s.startswith("agent.")]
    plain = [s for s in options.set if not s.startswith("agent.")]
    values = settings.parse(plain, DistillationConfig)
    values |= {n: v for n in _FIELDS if (v := getattr(options, n)) is not None}
    if options.environments:
        values["environments"] = tuple(options.environments)
    if agent:
        values["agent"] = settings.parse(agent, PPOConfig)
    return configure(options.preset, **values)
