"""The conformance of every artifact at hand, as a table and as a file.

    python -m learned_opt_rl.testing.table --out results/conformance.json

checks all artifacts of the package and of installed plugins, and the remote ones that
are in the cache. It takes minutes, most of them compilation; the documentation shows
the file.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import optax

from learned_opt_rl import artifacts
from learned_opt_rl._version import __version__
from learned_opt_rl.artifacts import remote
from learned_opt_rl.testing._suite import CheckResult, conformance


@dataclasses.dataclass(frozen=True)
class Row:
    """How one artifact did; checks by name.

    Attributes:
        artifact: Its name.
        kind: Its card's kind, which says what the checks are.
        passed: Names of the checks that passed.
        failed: Why, by the name of the check.
        skipped: Why, by the name of the check.

    Example:
        >>> from learned_opt_rl import testing
        >>> result = testing.CheckResult("jit", "passed")
        >>> Row.of("mine", "optimizer", [result]).passed
        ('jit',)
    """

    artifact: str
    kind: str
    passed: tuple[str, ...]
    failed: dict[str, str]
    skipped: dict[str, str]

    @classmethod
    def of(cls, artifact: str, kind: str, results: Iterable[CheckResult]) -> Row:
        """The row of an artifact's results."""
        found: dict[str, dict[str, str]] = {"passed": {}, "failed": {}, "skipped": {}}
        for result in results:
            found[result.outcome][result.name] = result.detail
        return cls(
            artifact, kind, tuple(found["passed"]), found["failed"], found["skipped"]
        )


def names_at_hand() -> list[str]:
    """The artifacts that can be checked without fetching anything.

    Returns:
        Their names, sorted.

    Example:
        >>> "discovered/dpo" in names_at_hand()
        True
    """
    return [
        name
        for name, card in artifacts.cards().items()
        if not card.is_remote or remote.is_cached(card)
    ]


def check_all(names: Iterable[str]) -> list[Row]:
    """Check artifacts against the contracts of their kinds.

    Args:
        names: Their names.

    Returns:
        A row each; a broken promise is in it and not raised.

    Raises:
        ArtifactError: An artifact is unknown, cannot be loaded, or is not fetched.

    Example:
        >>> [row] = check_all(["discovered/dpo"])
        >>> row.kind, len(row.passed), row.failed
        ('drift', 6, {})
    """
    rows = []
    for name in names:
        artifact = artifacts.load(name)
        rows.append(Row.of(name, artifact.card.kind, conformance(artifact)))
    return rows


def markdown(rows: Iterable[dict[str, Any]]) -> str:
    """Rows, as they are in the file, as a Markdown table.

    Args:
        rows: Objects with the fields of `Row`.

    Returns:
        A line per artifact: how many checks passed, and the names of the others.

    Example:
        >>> row = Row("mine", "drift", ("elementwise",), {"flat_at_one": "no"}, {})
        >>> print(markdown([dataclasses.asdict(row)]))
        | Artifact | Kind | Passed | Failed | Skipped |
        | --- | --- | --- | --- | --- |
        | mine | drift | 1 of 2 | `flat_at_one` |  |
    """
    lines = ["| Artifact | Kind | Passed | Failed | Skipped |", "| --- " * 5 + "|"]
    for row in rows:
        parts = [row["passed"], row["failed"], row["skipped"]]
        counted = f"{len(parts[0])} of {sum(map(len, parts))}"
        named = [", ".join(f"`{name}`" for name in part) for part in parts[1:]]
        lines.append(
            "| " + " | ".join([row["artifact"], row["kind"], counted, *named]) + " |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments without the program's name; by default ``sys.argv[1:]``.

    Returns:
        The exit status: 1 if an artifact breaks its contract, else 0.
    """
    parser = argparse.ArgumentParser(
        prog="python -m learned_opt_rl.testing.table",
        description="The conformance of every artifact at hand.",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="default: all")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    options = parser.parse_args(argv)
    rows = []
    for name in options.names or names_at_hand():
        print(name, file=sys.stderr, flush=True)
        rows += map(dataclasses.asdict, check_all([name]))
    print(markdown(rows))
    if options.out is not None:
        where = {
            "jax": jax.__version__,
            "optax": optax.__version__,
            "learned_opt_rl": __version__,
            "platform": jax.default_backend(),
        }
        text = json.dumps({**where, "rows": rows}, indent=1)
        options.out.write_text(f"{text}\n", encoding="utf-8")
    return int(any(row["failed"] for row in rows))


if __name__ == "__main__":
    # Read when jax starts its backend: the check of sharding needs two devices.
    flag = "--xla_force_host_platform_device_count=2"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    # Nearly all of the time is compilation, and speed is not what is checked.
    jax.config.update("jax_disable_most_optimizations", True)
    sys.exit(main())
