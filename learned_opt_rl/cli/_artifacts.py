"""What is installed, what it is, and whether it is intact."""

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from learned_opt_rl.artifacts import remote
from learned_opt_rl.artifacts.card import Card, Result
from learned_opt_rl.artifacts.registry import Entry, find, load_entry, scan
from learned_opt_rl.errors import ArtifactError


def add_commands(commands: Any) -> None:
    """Adds ``list``, ``show``, ``verify`` and ``fetch``."""
    listing = commands.add_parser("list", help="all artifacts, one per line")
    listing.set_defaults(run=_list)

    show = commands.add_parser(
        "show", help="the card of one artifact, and its text if it is a closed form"
    )
    show.add_argument("name", metavar="NAME")
    show.add_argument("--json", action="store_true", help="print the card as JSON")
    show.set_defaults(run=_show)

    verify = commands.add_parser("verify", help="check digests, values and shapes")
    verify.add_argument("names", metavar="NAME", nargs="*", help="default: all")
    verify.set_defaults(run=_verify)

    fetch = commands.add_parser("fetch", help="download a remote artifact's weights")
    fetch.add_argument("name", metavar="NAME")
    fetch.set_defaults(run=_fetch)


def _list(_: argparse.Namespace) -> int:
    found = scan()
    header = ("NAME", "SOURCE", "ALGORITHM", "PARAMETERS", "LICENSE", "SUMMARY")
    rows = [
        (
            name,
            _source(entry),
            entry.card.algorithm,
            str(entry.card.weights.parameters),
            entry.card.license,
            entry.card.summary,
        )
        for name, entry in sorted(found.entries.items())
    ]
    _print_table([header, *rows])
    for broken in found.broken:
        print(f"warning: {broken.origin}: {broken.error}", file=sys.stderr)
    return 0


def _source(entry: Entry) -> str:
    if not entry.card.is_remote:
        return entry.origin
    return f"remote ({'cached' if remote.is_cached(entry.card) else 'not fetched'})"


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print left-aligned columns; on a terminal the last one is cut to fit."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(cells).replace("\n", " ").rstrip()
        print(line if len(line) <= room else line[: room - 1] + "…")


def _show(options: argparse.Namespace) -> int:
    entry = find(options.name)
    if options.json:
        print(json.dumps(entry.card.to_dict(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_page(entry)))
    return 0


def _page(entry: Entry) -> Iterator[str]:
    """Lines to print; a closed form's are those of its text, exactly as stored."""
    card = entry.card
    yield f"{card.name}: {card.title}"
    yield ""
    yield textwrap.fill(card.summary, 88)
    yield ""
    for label, value in _facts(entry):
        yield textwrap.fill(
            value, 88, initial_indent=f"{label:<14}", subsequent_indent=" " * 14
        )
    if card.representation == "expression" and not card.is_remote:
        yield ""
        yield "Function"
        yield _harmless(load_entry(entry).text or "").removesuffix("\n")
    yield from _bullets("Results", map(_result_line, card.results), "not measured yet")
    commands = [result.command for result in card.results if result.command]
    if commands:
        yield ""
        yield "Measure it again"
        yield from (f"  {command}" for command in commands)
    yield from _bullets("Known failures", card.known_failures, "none recorded")


def _harmless(text: str) -> str:
    """A text without what would steer a terminal, which only a comment could hold."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode()
        for c in text
    )


def _facts(entry: Entry) -> Iterator[tuple[str, str]]:
    card, training = entry.card, entry.card.training
    sizes = ", ".join(f"{key} {value}" for key, value in card.architecture.items())
    yield "source", _source(entry)
    yield "algorithm", f"{card.algorithm} ({card.representation})"
    yield "architecture", f"{sizes}; {card.weights.parameters} parameters"
    yield "inputs", ", ".join(card.inputs) or "none"
    yield "horizon", _horizon(card)
    yield "trained by", training.method
    yield "trained on", ", ".join(training.environments) or "nothing"
    yield "", training.description
    yield "compute", training.compute
    for label, value in ("command", training.command), ("code", training.source):
        if value is not None:
            yield label, value
    yield "license", card.license
    yield "cite", f"{card.citation.text} {card.citation.url}"
    yield "sha256", card.weights.sha256


def _horizon(card: Card) -> str:
    if card.horizon is None:
        return "any"
    return (
        f"{card.horizon.total_updates} updates, {card.horizon.epochs} epochs of "
        f"{card.horizon.minibatches} minibatches"
    )


def _bullets(title: str, items: Iterable[str], otherwise: str) -> Iterator[str]:
    yield ""
    yield title
    for item in list(items) or [otherwise]:
        yield textwrap.fill(item, 88, initial_indent="- ", subsequent_indent="  ")


def _result_line(result: Result) -> str:
    line = f"{result.environment}, {result.steps:,} steps: {result.metric} "
    line += f"{result.mean:.4g}"
    if result.interval is not None:
        low, high = result.interval
        line += f" [{low:.4g}, {high:.4g}]"
    return f"{line} over {result.seeds} seeds ({result.method}; {result.source})"


def _verify(options: argparse.Namespace) -> int:
    found = scan()
    if options.names:
        entries = {name: find(name) for name in options.names}
        broken = []
    else:
        entries, broken = dict(sorted(found.entries.items())), found.broken
    reports = [(name, *_inspect(entry)) for name, entry in entries.items()]
    reports += [(item.name, "FAILED", str(item.error)) for item in broken]
    for name, status, detail in reports:
        print(f"{status:<12} {name}{': ' if detail else ''}{detail}")
    return int(any(status == "FAILED" for _, status, _ in reports))


def _inspect(entry: Entry) -> tuple[str, str]:
    """The status of an artifact's files, and what is wrong with them."""
    if entry.card.is_remote and not remote.is_cached(entry.card):
        return "not fetched", ""
    try:
        load_entry(entry)
    except ArtifactError as error:
        return "FAILED", str(error)
    return "ok", ""


def _fetch(options: argparse.Namespace) -> int:
    entry = find(options.name)
    if not entry.card.is_remote:
        print(f"{entry.card.name} is installed ({entry.origin}); nothing to fetch")
        return 0
    load_entry(entry, fetch=True)
    print(f"{entry.card.name} is verified and cached: {remote.cached_path(entry.card)}")
    return 0
