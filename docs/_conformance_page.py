"""The conformance of every artifact: checks them, and writes the page's table.

    python docs/_conformance_page.py --out results/conformance.json

checks the artifacts of the package and of installed plugins, and the remote ones that
are in the cache. It takes minutes, most of them compilation. The documentation shows
the file.
"""

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results/conformance.json"


def check_all(names: Iterable[str]) -> list[dict]:
    """Check artifacts against the contracts of their kinds.

    Args:
        names: Their names.

    Returns:
        One row for each: ``artifact``, ``kind``, ``passed`` (names of checks),
        ``failed`` and ``skipped`` (reasons by name of the check).
    """
    from learned_opt_rl import artifacts, testing

    rows = []
    for name in names:
        artifact = artifacts.load(name)
        rows.append(row(name, artifact.card.kind, testing.conformance(artifact)))
    return rows


def row(artifact: str, kind: str, results: Iterable) -> dict:
    """Return the row of an artifact's check results."""
    found: dict[str, dict[str, str]] = {"passed": {}, "failed": {}, "skipped": {}}
    for result in results:
        found[result.outcome][result.name] = result.detail
    return {"artifact": artifact, "kind": kind, **found, "passed": [*found["passed"]]}


def names_at_hand() -> list[str]:
    """Return the artifacts that can be checked without fetching anything."""
    from learned_opt_rl import artifacts
    from learned_opt_rl.artifacts import remote

    return [
        name
        for name, card in artifacts.cards().items()
        if not card.is_remote or remote.is_cached(card)
    ]


def markdown(rows: Iterable[dict]) -> str:
    """Return rows as a Markdown table: checks passed, and the names of the others."""
    lines = ["| Artifact | Kind | Passed | Failed | Skipped |", "| --- " * 5 + "|"]
    for found in rows:
        parts = [found["passed"], found["failed"], found["skipped"]]
        counted = f"{len(parts[0])} of {sum(map(len, parts))}"
        named = [", ".join(f"`{name}`" for name in part) for part in parts[1:]]
        cells = [found["artifact"], found["kind"], counted, *named]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_conformance(folder: pathlib.Path, results: pathlib.Path = RESULTS) -> None:
    """Write ``conformance.md`` into ``folder``, for ``docs/conformance.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "There are no recorded results."
    if results.is_file():
        found = json.loads(results.read_text(encoding="utf-8"))
        text = f"{markdown(found['rows'])}\n\nMeasured with jax {found['jax']}, on a "
        text += f"{found['platform'].upper()}."
        text += _reasons(found["rows"])
    (folder / "conformance.md").write_text(f"{text}\n", encoding="utf-8")


def _reasons(rows: list[dict]) -> str:
    lines = [
        f"- {row['artifact']}, `{check}`: {outcome}.\n\n  ```text\n{_inset(why)}\n  ```"
        for row in rows
        for outcome in ("failed", "skipped")
        for check, why in row[outcome].items()
    ]
    return "\n\n" + "\n".join(lines) if lines else ""


def _inset(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.replace("```", "'''").splitlines())


def main(argv: Sequence[str] | None = None) -> int:
    """Check, print the table and write the file; 1 if an artifact fails a check."""
    import jax
    import optax

    from learned_opt_rl._version import __version__

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", metavar="NAME", nargs="*", help="default: all")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="JSON file to write; with names, its rows of other artifacts stay",
    )
    options = parser.parse_args(argv)
    rows = []
    for name in options.names or names_at_hand():
        print(name, file=sys.stderr, flush=True)
        rows += check_all([name])
    print(markdown(rows))
    failed = any(row["failed"] for row in rows)
    if options.out is not None:
        if options.names and options.out.is_file():
            before = json.loads(options.out.read_text(encoding="utf-8"))["rows"]
            found = {row["artifact"]: row for row in (*before, *rows)}
            rows = [found[name] for name in names_at_hand() if name in found]
        versions = {
            "jax": jax.__version__,
            "optax": optax.__version__,
            "learned_opt_rl": __version__,
            "platform": jax.default_backend(),
        }
        text = json.dumps({**versions, "rows": rows}, indent=1)
        options.out.write_text(f"{text}\n", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    # Read when jax starts its backend: the checks of sharding need several devices.
    flag = "--xla_force_host_platform_device_count=4"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    # Nearly all of the time is compilation, and speed is not what is checked.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    sys.exit(main())
