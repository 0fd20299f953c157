"""Commands that meta-train rules: es, lpg, distill, promote and others."""

import dataclasses
import os
import pathlib
import sys
import warnings
from typing import TYPE_CHECKING, Annotated

from tyro.conf import (
    OmitArgPrefixes,
    Positional,
    arg,
    create_mutex_group,
    subcommand,
)

from learned_opt_rl.cli._common import (
    ClusterOption,
    QuietOption,
    Repeated,
    RunOptions,
    Settings,
    on_cluster,
    optional,
    print_failures,
    shared,
    stopping,
)
from learned_opt_rl.cli._propose import Discover, Propose, Refine
from learned_opt_rl.cli._symbolic import Symbolic

if TYPE_CHECKING:
    from learned_opt_rl.training.evolution import Campaign, EvolutionConfig
    from learned_opt_rl.training.evolution.folder import Standing
    from learned_opt_rl.training.promotion import Promotion

_WHERE = create_mutex_group(required=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Execution(ClusterOption):
    generations: Annotated[int | None, optional("INT")] = None
    """Total number of generations."""
    devices: Annotated[int | None, optional("INT")] = None
    """Number of devices that share a generation; by default 1, or all devices if there
    are several processes."""
    block: Annotated[int | None, optional("RUNS")] = None
    """Runs trained side by side on each device; by default 1 on a CPU, 64 elsewhere."""
    dry_run: bool = False
    """Print the cost in steps, memory and time, and exit."""
    tensorboard: bool = False
    """Write events into FOLDER/tensorboard (needs the extra tensorboard)."""
    coordinator: Annotated[str | None, optional("HOST:PORT")] = None
    """Address of the first process if there are several; auto on Slurm."""
    processes: Annotated[int | None, optional("INT")] = None
    """Number of processes, each started with the same command."""
    process: Annotated[int | None, optional("INT")] = None
    """Index of this process, from 0."""

    def join(self) -> int:
        """Join the other processes if there are any; return the number of devices."""
        import jax

        if self.coordinator is not None:
            from learned_opt_rl.training.evolution.campaign import join

            join(self.coordinator, self.processes, self.process)
        elif self.processes is not None or self.process is not None:
            raise ValueError(
                "--processes and --process need the --coordinator HOST:PORT of the "
                "first process"
            )
        everything = jax.device_count() if self.coordinator is not None else 1
        return everything if self.devices is None else self.devices


@dataclasses.dataclass(frozen=True, kw_only=True)
class Es(_Execution):
    """Evolve the weights of a learned rule with an evolution strategy.

    Each member of a generation trains agents from scratch, and their final returns are
    the fitness of the member. The folder keeps the state after every generation. To
    resume an interrupted campaign, repeat the command or run `train resume`.
    """

    preset: Annotated[str, arg(metavar="NAME")]
    """Preset configuration, for example open-minatar."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")]
    """Folder of the campaign."""
    settings: Settings = ()
    """Other settings, for example population=8 horizons=0:2e5,100:1e6 start=zeros."""

    def run(self) -> int:
        from learned_opt_rl.training.evolution import preset
        from learned_opt_rl.training.evolution.config import parse_settings

        devices = self.join()
        values = parse_settings(self.settings, preset(self.preset).algorithm)
        if self.generations is not None:
            values["generations"] = self.generations
        return _evolve(preset(self.preset, **values), self.out, self, devices)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resume(_Execution):
    """Resume a campaign of `train es`."""

    folder: Annotated[Positional[str], arg(metavar="FOLDER")]
    """Folder of a campaign, or an artifact whose campaign to copy and resume."""
    out: Annotated[pathlib.Path | None, optional("FOLDER")] = None
    """Folder for the copy of an artifact's campaign; NAME-campaign by default."""

    def run(self) -> int:
        import jax

        from learned_opt_rl.training.evolution.folder import read_campaign
        from learned_opt_rl.training.promotion.campaign import located

        devices = self.join()
        # Only the first of several processes writes; a dry run never does.
        writes = not self.dry_run and jax.process_index() == 0
        folder = located(self.folder, self.out, copy=writes)
        config = read_campaign(folder)
        if self.generations is not None:
            config = dataclasses.replace(config, generations=self.generations)
        return _evolve(config, folder, self, devices)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distill(QuietOption):
    """Train the weights of a learned rule to imitate a teacher, in minutes.

    The teacher is an artifact or an expression. If the folder contains a finished run,
    the command prints its result. If the run is unfinished, the command starts again,
    or resumes it with --inputs runs.
    """

    teacher: Annotated[str | None, optional("NAME")] = None
    """Name of an artifact, folder of a run, path of an expression, or
    sign_momentum:8e-4. Names joined by + label the runs of the environments in which
    each was trained (--inputs runs)."""
    preset: Annotated[str, arg(metavar="NAME")] = "same"
    """Preset configuration, for example same, half, short, long or runs."""
    student: Annotated[str | None, optional("SIZES")] = None
    """Network to train, for example same, half, open:32 or no_features:16."""
    steps: Annotated[int | None, optional("INT")] = None
    """Number of Adam steps."""
    sequence: Annotated[int | None, optional("STEPS")] = None
    """Number of steps to unroll over, for example 20 or 100."""
    inputs: Annotated[str | None, optional("KIND")] = None
    """Kind of inputs to train on: correlated, scaled, paper, visited or runs."""
    select: Annotated[str | None, optional("BY")] = None
    """Criterion for the best weights: error or return."""
    environments: Annotated[Repeated, optional("NAME")] = ()
    """Environments in which to train agents."""
    settings: Settings = ()
    """Other settings, for example learning_rate=1e-3 rounds=2 agent.hidden=16x16."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")]
    """Folder of the run."""

    def run(self) -> int:
        from learned_opt_rl.training.distillation import (
            DistillationConfig,
            configure,
            distill,
        )
        from learned_opt_rl.training.distillation.config import parse_settings

        values = parse_settings(self.settings)
        given = {"student": self.student, **shared(self, DistillationConfig)}
        values |= {k: v for k, v in given.items() if v not in (None, ())}
        config, teacher = configure(self.preset, **values)
        again = "resume" if config.inputs == "runs" else "start again"
        with stopping(f"repeat the command to {again}"):
            best = distill(config, teacher, self.out)
        score = best.get("return")
        returned = "" if score is None else f", return {score:.4g}"
        print(
            f"best after {best['step']} steps: error {best['error']:.4g} of the "
            f"teacher's rms{returned}; see {self.out}"
        )
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lpg(QuietOption):
    """Train LPG by meta-gradients on a pool of agents.

    In each meta-step, the agents learn for a few updates, and the rule moves so that
    their return grows. To resume an interrupted run, repeat the command.
    """

    preset: Annotated[str, arg(metavar="NAME")]
    """Preset configuration, for example lpg-cpu or lpg-groove."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")]
    """Folder of the run."""
    steps: Annotated[int | None, optional("INT")] = None
    """Total number of meta-steps."""
    environments: Annotated[Repeated, optional("NAME")] = ()
    """Environments in which to train agents."""
    devices: Annotated[int | None, optional("INT")] = None
    """Number of devices that share the lifetimes; by default as many as divide the
    number of mini-batches."""
    dry_run: bool = False
    """Print the cost in steps, memory and time, and exit."""
    tensorboard: bool = False
    """Write events into FOLDER/tensorboard (needs the extra tensorboard)."""
    settings: Settings = ()
    """Other settings, for example lifetimes=64 bandit=true architecture.core=lstm."""

    def run(self) -> int:
        from learned_opt_rl.training.meta_gradients import Training, preset
        from learned_opt_rl.training.meta_gradients.config import parse_settings

        values = parse_settings(self.settings)
        given = {"steps": self.steps, "environments": self.environments}
        values |= {k: v for k, v in given.items() if v not in (None, ())}
        training = Training(
            preset(self.preset, **values),
            self.out,
            devices=self.devices,
            tensorboard=self.tensorboard,
        )
        with stopping(
            f"{self.out} keeps the saved state; repeat the command to resume"
        ):
            estimate = training.estimate()
            out = sys.stdout if self.dry_run else sys.stderr
            print(estimate, file=out, flush=True)
            if self.dry_run:
                return 0
            row = training.run()
        share = row["recent_share"]
        shown = "no lifetime has finished" if share is None else f"{share:.3g}"
        print(
            f"{row['step']} meta-steps done; the last lifetimes' return over the "
            f"optimal return: {shown}; see {self.out}"
        )
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Promote(RunOptions):
    """Make the best weights or expression of a run an artifact of the repository.

    The command compares the weights with the current version of the artifact and with
    tuned Adam, and refuses weights that are worse than the current version. The
    artifact contains a card with the results, and the run's configuration and log. An
    evolved artifact also contains the state, from which `train resume` continues. To
    resume an interrupted promotion, repeat the command.
    """

    folder: Annotated[Positional[pathlib.Path], arg(metavar="RUN")]
    """Output folder of `train es`, `lpg`, `distill`, `symbolic`, `propose`, `discover`
    or `refine`."""
    name: Annotated[str, arg(name="as", metavar="NAME")]
    """Name of the artifact, for example minatar."""
    suite: Annotated[str | None, _WHERE, optional("NAME")] = None
    """Suite of environments, for example minatar."""
    environments: Annotated[Repeated, _WHERE, optional("NAME")] = ()
    """Environments; by default those of the run."""
    seeds: int = 5
    """Number of seeds."""
    # The default depends on the run; pyright accepts no wider type than the base's.
    first_seed: Annotated[int | None, optional("INT")] = None  # pyright: ignore
    """The first seed; by default 0, or after a search the first that it did not use."""
    total_timesteps: Annotated[float, arg(name="steps")] = 1e6
    """Environment steps of each run."""
    baselines: Annotated[Repeated, optional("RULE")] = ()
    """Rules with which to compare; by default adam, and none for LPG. The card's known
    failures are relative to the first one."""
    results: Annotated[pathlib.Path | None, optional("FILE")] = None
    """File to which the rows are added; by default results/NAME_STEPS.jsonl."""
    pretrained: Annotated[pathlib.Path | None, optional("FOLDER")] = None
    """Folder of the artifacts; the repository's by default."""
    force: bool = False
    """Promote the weights even if they are worse, and record this in the card."""
    title: Annotated[str | None, optional("TEXT")] = None
    """Title of the card."""
    summary: Annotated[str | None, optional("TEXT")] = None
    """Summary of the card."""
    failures: Annotated[Repeated, optional("TEXT", "failure")] = ()
    """Known failure to add to those found in the runs; Repeated."""

    def run(self) -> int:
        from learned_opt_rl.training.promotion import promote

        resume = "Repeat the command to resume"
        try:
            with stopping(f"{self.folder} keeps all finished work. {resume}"):
                outcome = promote(self._promotion())
        except TypeError as error:  # An environment of another package.
            raise ValueError(str(error)) from error
        except OSError as error:
            raise OSError(
                f"{error}; {self.name!r} is unchanged, and {self.folder} keeps all "
                f"finished runs. {resume}"
            ) from error
        print_failures(outcome.failed)
        if outcome.folder is None:
            print(
                "nothing was promoted; repeat the command to try again",
                file=sys.stderr,
            )
            return 1
        if outcome.verdict is not None:
            print(outcome.verdict.text)
        print(f"{self.name}: {outcome.folder / 'card.json'}")
        return 0

    def _promotion(self) -> "Promotion":
        from learned_opt_rl.training import promotion

        options, agent = self, promotion.agent_of_run(self.folder)
        if not (self.suite or self.environments):
            names = promotion.trained_in(self.folder)
            options = dataclasses.replace(self, environments=names)
        if self.first_seed is None:
            first = promotion.next_seed(self.folder)
            options = dataclasses.replace(options, first_seed=first)
        # The agent lpg needs update rules, so Adam cannot run beside it.
        alone = (self.name,) if agent == "lpg" else ("adam",)
        baselines = self.baselines or alone
        comparison = dataclasses.replace(options.comparison(baselines), agent=agent)
        fields = {**shared(self, promotion.Promotion), "run": self.folder}
        return promotion.Promotion(comparison=comparison, **fields)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """Plot the learning curve of a run (needs the extra eval).

    For `train es`, the figure shows the fitness of the members and of the mean over
    generations, and the return of the mean in each environment. For `train lpg`, it
    shows the return of finished lifetimes, entropies and resets. For `train propose`
    and `train discover`, it shows the score of each candidate and the best so far. For
    `train symbolic`, it shows the loss and the fitness of formulas over their size.
    """

    folder: Annotated[Positional[pathlib.Path], arg(metavar="FOLDER")]
    """Folder of `train es`, `lpg`, `symbolic`, `propose` or `discover`."""
    out: Annotated[pathlib.Path | None, optional("FILE")] = None
    """File for the figure; FOLDER/curve.png by default."""

    def run(self) -> int:
        # This import and those of `_draw` wait because they load jax and matplotlib.
        from learned_opt_rl.training.evolution.progress import CURVE

        path = self.out or self.folder / CURVE
        self._draw(path)
        print(path)
        return 0

    def _draw(self, path: pathlib.Path) -> None:
        from learned_opt_rl.rundir import jsonl
        from learned_opt_rl.training.evolution import progress
        from learned_opt_rl.training.meta_gradients import curve as lifetimes
        from learned_opt_rl.training.proposal import curve as searches
        from learned_opt_rl.training.run_folder import LOG
        from learned_opt_rl.training.symbolic import report

        if report.draws(self.folder):
            return report.draw_front(self.folder, path)
        if searches.draws(self.folder):
            return searches.draw_curve(self.folder, path)
        log = self.folder / LOG
        rows = jsonl.read(log) if log.exists() else [{}]
        if rows and "recent_share" in rows[0]:
            return lifetimes.draw_curve(rows, path)
        if all("generation" in row for row in rows):
            return progress.draw_curve(rows, path)
        raise ValueError(
            f"{self.folder} has no learning curve; give the folder of `train es`, "
            "`lpg`, `symbolic`, `propose` or `discover`"
        )


Train = Annotated[
    OmitArgPrefixes[
        Es
        | Resume
        | Lpg
        | Distill
        | Symbolic
        | Propose
        | Discover
        | Refine
        | Promote
        | Curve
    ],
    subcommand("train", description="Train rules (needs the extra train)."),
]
"""All commands of ``train``, for tyro."""


def _evolve(
    config: "EvolutionConfig", folder: pathlib.Path, options: _Execution, devices: int
) -> int:
    from learned_opt_rl.training.evolution import Campaign, Execution

    with on_cluster(None if options.dry_run else options.address) as cluster:
        execution = Execution(devices, options.block, options.tensorboard, cluster)
        return _evolved(Campaign(config, folder, execution), options.dry_run)


def _evolved(campaign: "Campaign", dry_run: bool) -> int:
    import jax

    from learned_opt_rl.training.run_folder import CONFIG

    folder = campaign.path
    resume = f"`learned-opt-rl train resume {folder}`"
    try:
        _estimate(campaign, dry_run)
        if dry_run:
            return 0
        standing = campaign.run()
    except KeyboardInterrupt:
        kept = f"{folder} keeps every finished generation; resume with {resume}"
        if not (folder / CONFIG).exists():
            kept = "nothing was started"
        print(f"stopped; {kept}", file=sys.stderr, flush=True)
        # The generation still runs. If jax were shut down under it, it would crash.
        os._exit(130)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ValueError(
            f"--block {campaign.block} needs more memory than a device has; give a "
            f"smaller one ({folder} keeps every finished generation)"
        ) from error
    except OSError as error:
        raise OSError(
            f"{error}; {folder} keeps every finished generation, resume with {resume}"
        ) from error
    print(_outcome(standing, folder))
    return 0


def _outcome(standing: "Standing", folder: pathlib.Path) -> str:
    best = int(standing.best_generation)
    if best < 0:
        raise ValueError(
            f"{folder} has no best weights, because no validation was finite: no "
            "episode ended, or the agents diverged. Raise horizons in another folder"
        )
    return (
        f"{int(standing.search.generation)} generations done; the best mean, of "
        f"generation {best}, has a validation of {float(standing.best_validation):.4g}"
    )


def _estimate(campaign: "Campaign", only: bool) -> None:
    """Print the remaining cost of a campaign, on standard output in a dry run."""
    import jax

    estimate = campaign.estimate()
    if jax.process_index() > 0:
        return
    print(estimate, file=sys.stdout if only else sys.stderr, flush=True)
    if estimate.warning():
        warnings.warn(str(estimate.warning()), stacklevel=1)
