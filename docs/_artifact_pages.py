"""The artifact pages of the documentation, written from the cards."""

import dataclasses
import pathlib
import re
import shutil
from collections.abc import Iterable, Mapping

from learned_opt_rl import artifacts
from learned_opt_rl.artifacts import Card


def write_pages(folder: pathlib.Path) -> None:
    """Write ``table.md`` and one page per registered artifact into ``folder``."""
    cards = artifacts.cards()
    # Pages of artifacts that are gone would otherwise stay in the documentation.
    shutil.rmtree(folder, ignore_errors=True)
    for name, card in cards.items():
        page = folder / "artifact" / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(_page(card), encoding="utf-8")
    (folder / "table.md").write_text(_overview(cards.values()), encoding="utf-8")


def _overview(cards: Iterable[Card]) -> str:
    rows = [
        [
            f"[{_text(card.name)}](/_generated/artifact/{card.name}.md)",
            _text(card.summary),
            _text(card.algorithm),
            f"{card.weights.parameters:,}",
            "fetched on request" if card.is_remote else "in the package",
            _text(card.license),
        ]
        for card in cards
    ]
    return _table(["Name", "For", "Rule", "Weights", "Where", "Licence"], rows)


def _page(card: Card) -> str:
    sections = [
        f"# {_text(card.name)}\n\n**{_text(card.title)}.** {_text(card.summary)}",
        _use(card),
        "## Facts\n\n" + _table(["", ""], _facts(card)),
        "## Training\n\n" + _training(card),
        "## Results\n\n" + _results(card),
        "## Where it does not work\n\n" + _bullets(card.known_failures),
        f"## Citation\n\n{_text(card.citation.text)}\n\n<{card.citation.url}>",
    ]
    return "\n\n".join(sections) + "\n"


def _use(card: Card) -> str:
    if card.algorithm == "open":
        module, statement = "open_rl", "from learned_opt_rl import open_rl"
    else:
        module, statement = "learned_opt_rl", "import learned_opt_rl"
    fetch = ", fetch=True" if card.is_remote else ""
    call = f'tx = {module}.pretrained("{card.name}"{fetch})'
    return f"```python\n{statement}\n\n{call}\n```"


def _facts(card: Card) -> list[list[str]]:
    inputs = f"{len(card.inputs)}: {', '.join(card.inputs)}"
    rows = [
        ["Rule", f"`{card.algorithm}`, {card.representation}"],
        ["Architecture", _pairs(card.architecture)],
        ["Inputs per parameter", _text(inputs)],
        ["Weights", f"{card.weights.parameters:,}, {_text(card.weights.format)}"],
        ["sha256", f"`{card.weights.sha256}`"],
        ["Licence", _text(card.license)],
    ]
    if card.horizon is not None:
        updates, epochs, minibatches = dataclasses.astuple(card.horizon)
        length = f"{updates:,} updates; {epochs} epochs of {minibatches} minibatches"
        rows.append(["Trained for", length])
    if card.is_remote:
        rows.append(["Address", f"<{card.weights.url}>"])
    return rows


def _training(card: Card) -> str:
    training = card.training
    rows = [
        ["Method", _text(training.method)],
        ["Environments", _text(", ".join(training.environments))],
        ["Compute", _text(training.compute)],
        ["Command", _code(training.command)],
        ["Source", _text(training.source or "this project")],
    ]
    return f"{_text(training.description)}\n\n{_table(['', ''], rows)}"


def _results(card: Card) -> str:
    if not card.results:
        return "The card records none."
    rows = [
        [
            _text(result.environment),
            f"{result.steps:,}",
            str(result.seeds),
            _text(result.metric),
            f"{result.mean:g}",
            _interval(result.interval),
            _text(result.method),
            _text(result.source),
            _code(result.command),
        ]
        for result in card.results
    ]
    head = "Environment,Steps,Seeds,Metric,Mean,Interval,Method,Source,Command"
    return _table(head.split(","), rows)


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:g} to {bounds[1]:g}"


def _pairs(mapping: Mapping[str, object]) -> str:
    return ", ".join(f"{_text(k)} {_text(str(v))}" for k, v in mapping.items())


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_text(line)}" for line in lines) or "The card names nothing."


def _code(text: str | None) -> str:
    return f"`` {text} ``".replace("|", "\\|").replace("\n", " ") if text else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _text(text: str) -> str:
    """Card text is plain text: nothing in it is Markdown, and it fits a table cell."""
    return re.sub(r"([\\`*_{}\[\]<>|#$])", r"\\\1", " ".join(text.split()))
