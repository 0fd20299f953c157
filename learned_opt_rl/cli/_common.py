"""Options that commands share, and their errors and warnings in one line each."""

import contextlib
import dataclasses
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

from tyro.conf import Positional, UseAppendAction, arg, create_mutex_group

if TYPE_CHECKING:
    from learned_opt_rl.evaluation.runs.compare import Failure
    from learned_opt_rl.evaluation.runs.plan import Comparison
    from learned_opt_rl.rundir.cluster import Cluster


def optional(metavar: str, name: str | None = None) -> Any:
    """Name the value of an option without a default, so the help shows none."""
    return arg(name=name, metavar=metavar, help_behavior_hint="")


# An option that may occur several times, with a value each; see `_arguments`.
Repeated = UseAppendAction[tuple[str, ...]]
Settings = Annotated[Repeated, optional("NAME=VALUE", "set")]
Rules = Annotated[Positional[tuple[str, ...]], optional("RULE")]
# Not required, so that a misspelled option is reported first.
_WHERE = create_mutex_group(required=False)

# Command-line names of the fields that error messages mention.
_PLAIN = (
    "seeds first_seed at_once devices runs only baseline environments sinks cluster"
)
_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in _PLAIN.split()} | {
    "total_timesteps": "--steps",
    "normalization": "--normalize",
    "horizon": "--set horizon",
    "horizons": "--set horizons",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuietOption:
    """The option ``--quiet`` of all commands that show progress."""

    quiet: bool = False
    """Do not show progress; warnings and errors are still shown."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterOption(QuietOption):
    """The option ``--cluster``; see `on_cluster`."""

    address: Annotated[str | None, optional("ADDRESS", "cluster")] = None
    """Dask scheduler whose workers make the runs, for example tcp://10.0.0.1:8786;
    local:4 starts four processes here (extra cluster)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options about runs, with the names of `Comparison`'s fields."""

    suite: Annotated[str | None, _WHERE, optional("NAME")] = None
    """Suite of environments; `list suites` prints all."""
    environments: Annotated[Repeated, _WHERE, optional("NAME")] = ()
    """Environment; may be repeated. `list environments` prints all."""
    seeds: int = 16
    """Number of seeds."""
    first_seed: int = 0
    """The first seed."""
    total_timesteps: Annotated[float, arg(name="steps")] = 1e7
    """Environment steps of each run."""
    settings: Settings = ()
    """Setting of the agent, for example hidden=256x256; may be repeated."""
    at_once: Annotated[int | None, optional("SEEDS")] = None
    """Seeds to train together; by default all, or one per device on a CPU."""
    devices: int = 1
    """Number of devices over which to shard the seeds trained together."""

    def comparison(self, rules: tuple[str, ...]) -> "Comparison":
        """Return the comparison of rules that the options describe."""
        if not (self.suite or self.environments):
            raise ValueError(
                "environments=(): need an environment or a suite. Pass --environments "
                "NAME or --suite NAME; `learned-opt-rl list environments` prints all"
            )
        from learned_opt_rl import envs
        from learned_opt_rl.evaluation.runs.plan import Comparison

        names = envs.suite(self.suite) if self.suite else self.environments
        fields = {**shared(self, Comparison), "rules": rules, "environments": names}
        return Comparison(**fields)


def shared(options: object, kind: Any) -> dict[str, Any]:
    """Return the options of a command that are also fields of a dataclass."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in vars(options).items() if name in names}


def as_options(message: str) -> str:
    """Replace fields in an error message: ``seeds=0`` becomes ``--seeds=0``."""
    fields = rf"(?<![\w.-])({'|'.join(_OPTIONS)})="
    return re.sub(fields, lambda found: f"{_OPTIONS[found[1]]}=", message)


@contextlib.contextmanager
def on_cluster(address: str | None) -> Iterator["Cluster | None"]:
    """Connect to the workers of ``--cluster``, if it is given."""
    if address is None:
        yield None
        return
    from learned_opt_rl.rundir.cluster import connected

    with connected(address) as cluster:
        yield cluster


@contextlib.contextmanager
def stopping(advice: str) -> Iterator[None]:
    """Give an interrupt the advice that `main` prints."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(advice) from None


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print warnings as single lines, without the source line that raised them.

    Filters such as PYTHONWARNINGS=error are ignored, because an error would end a long
    run.
    """

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        if sys.warnoptions:
            filters = cast(list[Any], warnings.filters)
            filters[:] = [one for one in filters if one[0] != "error"]
        warnings.showwarning = show
        yield


def terminal_width() -> int | None:
    """Return the letters in a line of the terminal, None if the output is a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print left-aligned columns, cut to the width of a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = terminal_width() or sys.maxsize
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(cells).replace("\n", " ").rstrip()
        print(line if len(line) <= room else line[: room - 1] + "…")


def print_failures(failures: Sequence["Failure"]) -> None:
    """Print one line per failed run on standard error."""
    for failure in failures:
        message = textwrap.shorten(failure.message, 300, placeholder=" ...")
        where = f"{failure.rule} on {failure.environment}"
        print(f"failed: {where}: {message}", file=sys.stderr)
