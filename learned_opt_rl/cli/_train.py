"""Meta-training: campaigns of evolution, started and gone on with."""

import argparse
import os
import pathlib
import sys
import warnings
from typing import TYPE_CHECKING, Any

from learned_opt_rl.cli import _curve, _distill, _promote
from learned_opt_rl.cli._compare import RefusedError, refusals, warnings_as_lines

if TYPE_CHECKING:
    from learned_opt_rl.training.evolution import Campaign, EvolutionConfig

_NAMES = {"devices": "--devices", "total_timesteps": "horizons"}
"""What fields are called here, in errors."""


def add_command(commands: Any) -> None:
    """Adds ``train``."""
    train = commands.add_parser(
        "train",
        help="meta-train a learned rule (needs the extra train)",
        description="Meta-trains learned rules.",
    )
    kinds = train.add_subparsers(title="commands", required=True, metavar="COMMAND")

    start = kinds.add_parser(
        "es",
        help="by evolution strategies",
        description=(
            "Evolves the weights of a learned rule: each member of a generation trains "
            "agents from scratch, and their final returns are its fitness. Every "
            "generation is kept in the folder; what was killed goes on: give the same "
            "command once more, or `train resume`."
        ),
    )
    start.add_argument(
        "--preset", metavar="NAME", required=True, help="as open-minatar; see docs"
    )
    start.add_argument("--out", type=pathlib.Path, metavar="FOLDER", required=True)
    start.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="other settings, as population=8 horizons=0:2e5,100:1e6 start=zeros "
        "agent.hidden=16x16 architecture.width=16",
    )
    _add_execution(start)
    start.set_defaults(run=_start)

    resume = kinds.add_parser("resume", help="go on with a campaign")
    resume.add_argument(
        "folder",
        metavar="FOLDER",
        help="or the name of an artifact, whose campaign is copied and goes on",
    )
    resume.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="FOLDER",
        help="where an artifact's campaign is copied to (default NAME-campaign)",
    )
    _add_execution(resume)
    resume.set_defaults(run=_resume)
    _promote.add_command(kinds)
    _curve.add_command(kinds)

    _distill.add_command(kinds)


def _add_execution(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--generations", type=int, help="when it is over")
    add(
        "--devices",
        type=int,
        help="that share a generation (default 1; all of them with several processes)",
    )
    add(
        "--block",
        type=int,
        metavar="RUNS",
        help="trained side by side on each device; more need more memory (default 1 on "
        "CPU, 64 elsewhere)",
    )
    add(
        "--dry-run",
        action="store_true",
        help="print what it would cost in steps, memory and time, and stop",
    )
    add(
        "--tensorboard",
        action="store_true",
        help="write events into FOLDER/tensorboard (needs the extra tensorboard)",
    )
    several = parser.add_argument_group("several processes, each started with these")
    several.add_argument(
        "--coordinator", metavar="HOST:PORT", help="of the first; auto on Slurm"
    )
    several.add_argument("--processes", type=int, metavar="N", help="how many")
    several.add_argument("--process", type=int, metavar="I", help="which, from 0")


def _start(options: argparse.Namespace) -> int:
    with warnings_as_lines():
        with refusals(ValueError, ImportError, options=_NAMES):
            _join(options)
            config = _asked(options)
        return _run(config, options.out, options)


def _asked(options: argparse.Namespace) -> "EvolutionConfig":
    from learned_opt_rl.training.evolution import preset
    from learned_opt_rl.training.evolution.settings import parse

    settings = parse(options.set, preset(options.preset).algorithm)
    if options.generations is not None:
        settings["generations"] = options.generations
    return preset(options.preset, **settings)


def _resume(options: argparse.Namespace) -> int:
    import dataclasses

    import jax

    with warnings_as_lines():
        with refusals(ValueError, ImportError, options=_NAMES):
            from learned_opt_rl.training.evolution.folder import read_config
            from learned_opt_rl.training.promotion.kept import located

            _join(options)
            # Of several processes only the first writes, in a dry run none does.
            writes = not options.dry_run and jax.process_index() == 0
            folder = located(options.folder, options.out, copy=writes)
            config = read_config(folder)
            if options.generations is not None:
                config = dataclasses.replace(config, generations=options.generations)
        return _run(config, folder, options)


def _join(options: argparse.Namespace) -> None:
    """Becomes one of several processes, if so asked, and settles the devices."""
    import jax

    if options.coordinator is not None:
        from learned_opt_rl.training.evolution.processes import join

        join(options.coordinator, options.processes, options.process)
    elif options.processes is not None or options.process is not None:
        raise ValueError(
            "--processes and --process need the --coordinator HOST:PORT of the first"
        )
    if options.devices is None:
        options.devices = jax.device_count() if options.coordinator is not None else 1


def _run(
    config: "EvolutionConfig", folder: pathlib.Path, options: argparse.Namespace
) -> int:
    import jax

    from learned_opt_rl.training.evolution import Campaign, Execution
    from learned_opt_rl.training.evolution.folder import CONFIG

    execution = Execution(options.devices, options.block, options.tensorboard)
    campaign = Campaign(config, folder, execution)
    try:
        with refusals(ValueError, ImportError, options=_NAMES):
            _estimate(campaign, options.dry_run)
            if options.dry_run:
                return 0
            standing = campaign.run()
    except KeyboardInterrupt:
        kept = f"{folder} keeps every generation that was done; go on with "
        kept += f"`learned-opt-rl train resume {folder}`"
        if not (folder / CONFIG).exists():
            kept = "nothing has begun"
        print(f"stopped; {kept}", file=sys.stderr, flush=True)
        # The generation still runs; jax, taken down under it, would crash.
        os._exit(130)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise RefusedError(
            f"--block {campaign.block} needs more memory than a device has; give a "
            f"smaller one ({folder} keeps every generation that was done)"
        ) from error
    except OSError as error:
        raise RefusedError(
            f"{error}; what {folder} held is still there, go on with `learned-opt-rl "
            f"train resume {folder}`"
        ) from error
    print(
        f"{int(standing.search.generation)} generations done; the best mean, of "
        f"generation {int(standing.best_generation)}, has a validation of "
        f"{float(standing.best_validation):.4g}"
    )
    return 0


def _estimate(campaign: "Campaign", only: bool) -> None:
    """Prints what is left of a campaign: on standard output if that is all."""
    import jax

    estimate = campaign.estimate()
    if jax.process_index() > 0:
        return
    print(estimate, file=sys.stdout if only else sys.stderr, flush=True)
    if estimate.warning():
        warnings.warn(str(estimate.warning()), stacklevel=1)
