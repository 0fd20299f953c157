"""Write the artifact pages of the documentation from the cards."""

import dataclasses
import pathlib
import re
import shutil
from collections.abc import Iterable, Mapping

from _artifact_figures import Figures

from learned_opt_rl import artifacts, expressions, families
from learned_opt_rl.artifacts import Artifact, Card, registry, remote

_KINDS = {"optimizer": "optimizer", "drift": "drift", "update_rule": "update rule"}
_USES = {
    "optimizer": ("tx", []),
    "drift": ("drift", ["loss = losses.policy_loss(ratio, advantage, drift=drift)"]),
    "update_rule": (
        "rule",
        ["loss, metrics = rule.loss(rewards, dones, probs, y, y_next)"],
    ),
}


def write_pages(folder: pathlib.Path) -> None:
    """Write ``table.md``, ``drifts.md`` and one page per artifact into ``folder``.

    Plots are kept between builds.
    """
    cards = artifacts.cards()
    figures = Figures(folder / "figures")
    # Remove the pages of artifacts that no longer exist.
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
            "fetched on request" if card.is_remote else "bundled",
            _text(card.license),
        ]
        for card in cards
    ]
    return _table(
        ["Name", "Kind", "Summary", "Rule", "Weights", "Source", "License"], rows
    )


def _page(card: Card, artifact: Artifact | None, figures: Figures) -> str:
    sections = [
        f"# {_text(card.name)}\n\n**{_text(card.title)}.** {_text(card.summary)}",
        _use(card),
        *_function(artifact),
        "## Update rule\n\n" + _picture(card, artifact, figures),
        "## Facts\n\n" + _table(["", ""], _facts(card)),
        "## Training\n\n" + _training(card),
        "## Results\n\n" + _results(card),
        "## Known failures\n\n" + _bullets(card.known_failures),
        f"## Citation\n\n{_text(card.citation.text)}\n\n<{card.citation.url}>",
    ]
    return "\n\n".join(sections) + "\n"


def _learning_curve(name: str, page: pathlib.Path) -> str:
    """Return the section with the learning curve next to the card, if any."""
    curve = registry.find(name).folder / "learning-curve.png"
    if not curve.exists():
        return ""
    copied = page.with_name(f"{page.stem}-learning-curve.png")
    shutil.copy(curve, copied)
    return f"\n## Meta-training\n\n![Learning curve]({copied.name})\n"


def _use(card: Card) -> str:
    package, _, name = families.find(card.algorithm).module.rpartition(".")
    # The rule of a plugin is loaded through the registry.
    module = name if package == "learned_opt_rl.rules" else "learned_opt_rl"
    variable, then = _USES[card.kind]
    arguments, setup = [f'"{card.name}"'], []
    names = {module, "losses"} if card.kind == "drift" else {module}
    if card.kind == "optimizer" and card.horizon is not None:
        names.add("Horizon")
        arguments.append("horizon=horizon")
        updates, epochs, minibatches = dataclasses.astuple(card.horizon)
        setup = [
            "# The horizon of the artifact's training. Pass the horizon of your run.",
            f"horizon = Horizon({updates}, epochs={epochs}, minibatches={minibatches})",
        ]
    if card.is_remote:
        arguments.append("fetch=True")
    lines = ["import learned_opt_rl"] if "learned_opt_rl" in names else []
    names -= {"learned_opt_rl"}
    if names:
        lines.append(f"from learned_opt_rl import {', '.join(sorted(names))}")
    call = f"{variable} = {module}.pretrained({', '.join(arguments)})"
    lines += ["", *setup, call, *then]
    return _fenced("python", "\n".join(lines))


def _function(artifact: Artifact | None) -> list[str]:
    """Return the section of an expression: the stored text and the formula."""
    if artifact is None or artifact.text is None:
        return []
    subtracted = " The returned value is subtracted from the parameters."
    return [
        "## Expression\n\nThe text exactly as stored and run, in [the expression "
        "language](/expressions.md)."
        + (subtracted if artifact.card.kind == "optimizer" else ""),
        _fenced("text", artifact.text.removesuffix("\n")),
        "The same expression as a formula:",
        _fenced("{math}", expressions.parse(artifact.text).to_latex()),
    ]


def _picture(card: Card, artifact: Artifact | None, figures: Figures) -> str:
    if card.kind == "update_rule":
        return "There is no plot, because an update rule depends on a whole rollout."
    if artifact is None:
        return (
            "There is no plot, because the weights were not fetched before this page "
            f"was built. To plot the rule, run `learned-opt-rl fetch {card.name}` and "
            f"`learned-opt-rl plot {card.name}`."
        )
    image = f"![{_text(card.name)}](/_generated/figures/{figures.of(artifact)})"
    if card.kind == "drift":
        return (
            f"{image}\n\nThe plot compares the drift with PPO. The top row shows the "
            "derivative of the loss with respect to the ratio; the dotted lines are "
            "without a drift. The rows below show the drift and the same derivative "
            "over log ratio and advantage. To redraw the plot, run `learned-opt-rl "
            f"plot {card.name}`."
        )
    return (
        f"{image}\n\nThe plot shows the update of one parameter over its gradient and "
        "momentum, after 30 steps with a constant gradient. Red is up and blue is "
        "down. Each panel has its own scale. The titles state the closest multiples "
        "of sign-momentum, Adam and SGD, and the share of the update that they "
        f"explain. For a finer plot, run `learned-opt-rl plot {card.name}`."
    )


def _gallery(drifts: list[Artifact], figures: Figures) -> str:
    if not drifts:
        return ""
    return f"![All drifts](/_generated/figures/{figures.gallery(drifts)})\n"


def _fenced(info: str, text: str) -> str:
    """Return a block whose fence is longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{info}\n{text}\n{fence}"


def _facts(card: Card) -> list[list[str]]:
    inputs = f"{len(card.inputs)}: {', '.join(card.inputs)}"
    per = {"optimizer": "parameter", "drift": "sample", "update_rule": "step"}
    is_expression = card.weights.format == "expression"
    count = f"{card.weights.parameters:,} {'constants' if is_expression else 'weights'}"
    rows = [
        ["Kind", _KINDS[card.kind]],
        ["Rule", f"`{card.algorithm}`, {card.representation}"],
        ["Architecture", _pairs(card.architecture)],
        [f"Inputs per {per[card.kind]}", _text(inputs)],
        ["Weights", f"{count}, {_text(card.weights.format)}"],
        ["sha256", f"`{card.weights.sha256}`"],
        ["License", _text(card.license)],
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
        return "The card contains no results."
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
    shown = {k: "none" if v is None else str(v) for k, v in mapping.items()}
    return ", ".join(f"{_text(key)} {_text(value)}" for key, value in shown.items())


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_text(line)}" for line in lines) or "The card lists none."


def _code(text: str | None) -> str:
    return f"`` {text} ``".replace("|", "\\|").replace("\n", " ") if text else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _text(text: str) -> str:
    """Escape card text, which is plain text, for Markdown and table cells."""
    return re.sub(r"([\\`*_{}\[\]<>|#$])", r"\\\1", " ".join(text.split()))
