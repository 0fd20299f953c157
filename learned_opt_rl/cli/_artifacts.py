"""Commands about artifacts: list, show, verify, fetch and draw them."""

import dataclasses
import json
import pathlib
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from learned_opt_rl.artifacts import remote
from learned_opt_rl.artifacts.registry import Entry, find, load_entry, scan
from learned_opt_rl.cli._common import optional, print_table
from learned_opt_rl.errors import ArtifactError

_Name = Annotated[Positional[str], arg(metavar="NAME")]
_Names = Annotated[Positional[tuple[str, ...]], optional("NAME")]


@dataclasses.dataclass(frozen=True)
class List:
    """Print all artifacts, environments, suites or presets, one per line."""

    what: Positional[Literal["artifacts", "environments", "suites", "presets"]] = (
        "artifacts"
    )
    """What to list. Presets are the published settings of agents and of training."""
    kind: Literal["optimizer", "drift", "update_rule"] | None = None
    """Only artifacts of this kind."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        if self.kind is not None and self.what != "artifacts":
            raise ValueError(
                f"--kind {self.kind}: only artifacts have a kind. Leave it out"
            )
        if self.what != "artifacts":
            _print(_LISTS[self.what](), self.json)
            return 0
        found = scan()
        chosen = {
            name: entry
            for name, entry in sorted(found.entries.items())
            if self.kind in (None, entry.card.kind)
        }
        _print([_listed(name, entry) for name, entry in chosen.items()], self.json)
        for broken in found.broken:
            print(f"warning: {broken.origin}: {broken.error}", file=sys.stderr)
        return 0


def _listed(name: str, entry: Entry) -> dict[str, Any]:
    card = entry.card
    return {
        "name": name,
        "kind": card.kind,
        "source": _source(entry),
        "summary": card.summary,
        "algorithm": card.algorithm,
        "parameters": card.weights.parameters,
        "license": card.license,
    }


def _print(records: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(records, indent=2, ensure_ascii=False))
    elif records:
        header = tuple(name.upper() for name in records[0])
        print_table([header, *(tuple(map(str, r.values())) for r in records)])


def _environments() -> list[dict[str, Any]]:
    from learned_opt_rl import envs

    suites = {name: envs.suite(name) for name in envs.SUITES}
    return [
        {"name": name, "suites": ", ".join(s for s in suites if name in suites[s])}
        for name in envs.names()
    ]


def _suites() -> list[dict[str, Any]]:
    from learned_opt_rl import envs

    return [
        {"name": name, "environments": ", ".join(envs.suite(name))}
        for name in envs.SUITES
    ]


def _presets() -> list[dict[str, Any]]:
    from learned_opt_rl.agents import presets as agents
    from learned_opt_rl.rundir import settings
    from learned_opt_rl.training import presets

    tables: dict[str, Mapping[str, Mapping[str, Any]]] = {
        f"agent {name}": agents.columns(name) for name in agents.CONFIGS
    }
    for name, method in (
        ("train es", "evolution"),
        ("train lpg", "meta_gradients"),
        ("train distill", "distillation"),
    ):
        tables[name] = presets.table(method)
    return [
        {
            "name": name,
            "of": where,
            "settings": " ".join(
                settings.format({k: v for k, v in values.items() if k != "source"})
            ),
        }
        for where, table in tables.items()
        for name, values in table.items()
    ]


_LISTS = {"environments": _environments, "suites": _suites, "presets": _presets}


@dataclasses.dataclass(frozen=True)
class Show:
    """Print the card of an artifact and, for an expression, its text."""

    name: _Name
    """Name of an artifact."""
    json: bool = False
    """Print the card as JSON."""

    def run(self) -> int:
        entry = find(self.name)
        if self.json:
            print(json.dumps(entry.card.to_dict(), indent=2, ensure_ascii=False))
        else:
            print("\n".join(_page(entry)))
        return 0


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check the digests, values and shapes of artifacts."""

    names: _Names = ()
    """Names of artifacts; all artifacts by default."""

    def run(self) -> int:
        if self.names:
            entries, broken = {name: find(name) for name in self.names}, []
        else:
            found = scan()
            entries, broken = dict(sorted(found.entries.items())), found.broken
        reports = [(name, *_inspect(entry)) for name, entry in entries.items()]
        reports += [(item.name, "FAILED", str(item.error)) for item in broken]
        for name, status, detail in reports:
            print(f"{status:<12} {name}{': ' if detail else ''}{detail}")
        return int(any(status == "FAILED" for _, status, _ in reports))


@dataclasses.dataclass(frozen=True)
class Fetch:
    """Download the weights of a remote artifact into the cache."""

    name: _Name
    """Name of a remote artifact."""

    def run(self) -> int:
        entry = find(self.name)
        if not entry.card.is_remote:
            print(f"{entry.card.name} is installed ({entry.origin}); nothing to fetch")
            return 0
        load_entry(entry, fetch=True)
        path = remote.cached_path(entry.card)
        print(f"{entry.card.name} is verified and cached: {path}")
        return 0


@dataclasses.dataclass(frozen=True)
class Plot:
    """Plot the updates of optimizers and the shapes of drifts (needs the extra eval).

    The command writes one PNG file for each optimizer and one for all drifts. The plot
    of an optimizer shows its update over gradient and momentum, at three training
    proportions and three dormancies, with the closest multiples of Adam, sign-momentum
    and SGD. The plot of drifts compares them with PPO's: dL/dr over the ratio for A =
    +1 and -1, and the drift and dL/dr over log r and A.
    """

    names: _Names
    """Names of optimizers and drifts."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER_OR_FILE")] = pathlib.Path(".")
    """Folder for the plots, or a file ending in .png for a single plot."""

    def run(self) -> int:
        pictures = _pictures([find(name) for name in dict.fromkeys(self.names)])
        paths = _picture_paths(self.out, list(pictures))
        # This import waits until here because it loads jax.
        from learned_opt_rl.evaluation.pictures.artifact import plot_artifacts

        for path, entries in zip(paths, pictures.values(), strict=True):
            shown = [load_entry(entry) for entry in entries]
            path.parent.mkdir(parents=True, exist_ok=True)
            plot_artifacts(shown, path)
            print(path)
        return 0


Commands = List | Show | Verify | Fetch | Plot


def _pictures(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Group entries by picture file: one per optimizer, one for all drifts."""
    if not entries:
        raise ValueError("name at least one artifact; `learned-opt-rl list` prints all")
    for entry in entries:
        if entry.card.kind == "update_rule":
            raise ArtifactError(
                f"artifact '{entry.card.name}' is an update rule: its output depends "
                "on a whole rollout, so it cannot be plotted; name optimizers and "
                "drifts only"
            )
    drifts = [entry for entry in entries if entry.card.kind == "drift"]
    others = [[entry] for entry in entries if entry.card.kind != "drift"]
    pictures = {}
    for group in (*others, *([drifts] if drifts else [])):
        name = "drifts" if len(group) > 1 else group[0].card.name.replace("/", "_")
        pictures[f"{name}.png"] = group
    return pictures


def _picture_paths(out: pathlib.Path, names: Sequence[str]) -> list[pathlib.Path]:
    if out.suffix.lower() != ".png":
        return [out / name for name in names]
    if len(names) > 1:
        raise ValueError(
            f"--out {out} is one file, but there are {len(names)} pictures "
            f"({', '.join(names)}); give a folder"
        )
    return [out]


def _source(entry: Entry) -> str:
    if not entry.card.is_remote:
        return entry.origin
    return "cached" if remote.is_cached(entry.card) else "remote"


def _page(entry: Entry) -> Iterator[str]:
    """Yield the lines of a card; an expression's text appears exactly as stored."""
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
    yield from _bullets("Results", map(str, card.results), "not measured yet")
    commands = [result.command for result in card.results if result.command]
    if commands:
        yield ""
        yield "Reproduce the results"
        yield from (f"  {command}" for command in commands)
    yield from _bullets("Known failures", card.known_failures, "none recorded")


def _harmless(text: str) -> str:
    """Escape control characters, which a comment in the text could hold."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode()
        for c in text
    )


def _facts(entry: Entry) -> Iterator[tuple[str, str]]:
    card, training = entry.card, entry.card.training
    sizes = ", ".join(
        f"{key} {'none' if value is None else value}"
        for key, value in card.architecture.items()
    )
    yield "source", _source(entry)
    yield "algorithm", f"{card.algorithm} ({card.representation})"
    yield "architecture", f"{sizes}; {card.weights.parameters} parameters"
    yield "inputs", ", ".join(card.inputs) or "none"
    horizon = card.horizon
    yield (
        "horizon",
        "any"
        if horizon is None
        else (
            f"{horizon.total_updates} updates, {horizon.epochs} epochs of "
            f"{horizon.minibatches} minibatches"
        ),
    )
    yield "trained by", training.method
    yield "trained on", ", ".join(training.environments) or "no environment"
    yield "", training.description
    yield "compute", training.compute
    for label, value in ("command", training.command), ("code", training.source):
        if value is not None:
            yield label, value
    yield "license", card.license
    yield "cite", f"{card.citation.text} {card.citation.url}"
    yield "sha256", card.weights.sha256


def _bullets(title: str, items: Iterable[str], otherwise: str) -> Iterator[str]:
    yield ""
    yield title
    for item in list(items) or [otherwise]:
        yield textwrap.fill(item, 88, initial_indent="- ", subsequent_indent="  ")


def _inspect(entry: Entry) -> tuple[str, str]:
    """Return the status of an artifact's files and a description of any damage."""
    if entry.card.is_remote and not remote.is_cached(entry.card):
        return "not fetched", ""
    try:
        load_entry(entry)
    except ArtifactError as error:
        return "FAILED", str(error)
    return "ok", ""
