"""The artifact pages of the documentation, written from the cards."""

import dataclasses
import pathlib
import re
import shutil
from collections.abc import Iterable, Mapping

from _artifact_figures import Figures

from learned_opt_rl import artifacts, expressions
from learned_opt_rl.artifacts import Artifact, Card, registry, remote

_MODULES = {
    "expression": "discovered",
    "lpg": "lpg",
    "lpo": "lpo",
    "no_features": "no_features",
    "open": "open_rl",
    "open_separated": "open_rl",
    "optim4rl": "optim4rl",
}
_KINDS = {"optimizer": "optimiser", "drift": "drift", "update_rule": "update rule"}
_USES = {
    "optimizer": ("tx", []),
    "drift": ("drift", ["loss = losses.policy_loss(ratio, advantage, drift=drift)"]),
    "update_rule": (
        "rule",
        ["loss, metrics = rule.loss(rewards, dones, probs, y, y_next)"],
    ),
}


def write_pages(folder: pathlib.Path) -> None:
    """Write ``table.md`` and one page per registered artifact into ``folder``.

    Also ``drifts.md``, a picture of all drifts. Pictures stay from build to build.
    """
    cards = artifacts.cards()
    figures = Figures(folder / "figures")
    # Pages of artifacts that are gone would otherwise stay in the documentation.
    shutil.rmtree(folder / "artifact", ignore_errors=True)
    loaded = {
        name: artifacts.load(name)
        for name, card in cards.items()
        if not card.is_remote or remote.is_cached(card)
    }
    for name, card in cards.items():
        page = folder / "artifact" / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        text = _page(card, loaded.get(name), figures) + _learning_curve(name, page)
        page.write_text(text, encoding="utf-8")
    (folder / "table.md").write_text(_overview(cards.values()), encoding="utf-8")
    drifts = [found for found in loaded.values() if found.card.kind == "drift"]
    (folder / "drifts.md").write_text(_gallery(drifts, figures), encoding="utf-8")
    figures.remove_others()


def _overview(cards: Iterable[Card]) -> str:
    rows = [
        [
            f"[{_text(card.name)}](/_generated/artifact/{card.name}.md)",
            _KINDS[card.kind],
            _text(card.summary),
            _text(card.algorithm),
            f"{card.weights.parameters:,}",
            "fetched on request" if card.is_remote else "in the package",
            _text(card.license),
        ]
        for card in cards
    ]
    return _table(["Name", "Kind", "For", "Rule", "Weights", "Where", "Licence"], rows)


def _page(card: Card, artifact: Artifact | None, figures: Figures) -> str:
    sections = [
        f"# {_text(card.name)}\n\n**{_text(card.title)}.** {_text(card.summary)}",
        _use(card),
        *_function(artifact),
        "## What it does\n\n" + _picture(card, artifact, figures),
        "## Facts\n\n" + _table(["", ""], _facts(card)),
        "## Training\n\n" + _training(card),
        "## Results\n\n" + _results(card),
        "## Where it does not work\n\n" + _bullets(card.known_failures),
        f"## Citation\n\n{_text(card.citation.text)}\n\n<{card.citation.url}>",
    ]
    return "\n\n".join(sections) + "\n"


def _learning_curve(name: str, page: pathlib.Path) -> str:
    """The section of a meta-training whose curve is kept beside the card, if any."""
    curve = registry.find(name).folder / "learning-curve.png"
    if not curve.exists():
        return ""
    copied = page.with_name(f"{page.stem}-learning-curve.png")
    shutil.copy(curve, copied)
    return f"\n## Meta-training\n\n![Learning curve]({copied.name})\n"


def _use(card: Card) -> str:
    module = _MODULES.get(card.algorithm, "learned_opt_rl")
    variable, then = _USES[card.kind]
    lines = ["import learned_opt_rl"] if module == "learned_opt_rl" else []
    names = {module, "losses"} if card.kind == "drift" else {module}
    names -= {"learned_opt_rl"}
    if names:
        lines.append(f"from learned_opt_rl import {', '.join(sorted(names))}")
    fetch = ", fetch=True" if card.is_remote else ""
    lines += ["", f'{variable} = {module}.pretrained("{card.name}"{fetch})', *then]
    return _fenced("python", "\n".join(lines))


def _function(artifact: Artifact | None) -> list[str]:
    """The section of a closed form: its text exactly as stored, and as a formula."""
    if artifact is None or artifact.text is None:
        return []
    subtracted = " What it returns is subtracted from the parameters."
    return [
        "## Function\n\nIts text, exactly as stored and run, in [the language of "
        "expressions](/expressions.md)."
        + (subtracted if artifact.card.kind == "optimizer" else ""),
        _fenced("text", artifact.text.removesuffix("\n")),
        "The same as a formula:",
        _fenced("{math}", expressions.parse(artifact.text).to_latex()),
    ]


def _picture(card: Card, artifact: Artifact | None, figures: Figures) -> str:
    if card.kind == "update_rule":
        return "What it does depends on a whole rollout: there is no picture of it."
    if artifact is None:
        return (
            "Its weights are fetched on request, and were not at hand when this page "
            f"was built. `learned-opt-rl fetch {card.name}` and `learned-opt-rl plot "
            f"{card.name}` draw the picture."
        )
    image = f"![{_text(card.name)}](/_generated/figures/{figures.of(artifact)})"
    if card.kind == "drift":
        return (
            f"{image}\n\nBeside PPO: above, the derivative of the loss by the ratio, "
            "the dotted lines being those without any drift; then the drift, and the "
            f"derivative again, over log ratio and advantage. `learned-opt-rl plot "
            f"{card.name}` draws it."
        )
    return (
        f"{image}\n\nThe update of one parameter over its gradient and momentum, after "
        "30 steps of one constant gradient, red up and blue down; each panel has its "
        "own scale. In the titles the multiples of sign-momentum, Adam and SGD that "
        "come nearest, and the share they explain. `learned-opt-rl plot "
        f"{card.name}` draws it finer."
    )


def _gallery(drifts: list[Artifact], figures: Figures) -> str:
    if not drifts:
        return ""
    return f"![All drifts](/_generated/figures/{figures.gallery(drifts)})\n"


def _fenced(info: str, text: str) -> str:
    """A block whose fence is longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{info}\n{text}\n{fence}"


def _facts(card: Card) -> list[list[str]]:
    inputs = f"{len(card.inputs)}: {', '.join(card.inputs)}"
    per = {"optimizer": "parameter", "drift": "sample", "update_rule": "step"}
    closed_form = card.weights.format == "expression"
    count = f"{card.weights.parameters:,} {'constants' if closed_form else 'weights'}"
    rows = [
        ["Kind", _KINDS[card.kind]],
        ["Rule", f"`{card.algorithm}`, {card.representation}"],
        ["Architecture", _pairs(card.architecture)],
        [f"Inputs per {per[card.kind]}", _text(inputs)],
        ["Weights", f"{count}, {_text(card.weights.format)}"],
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
