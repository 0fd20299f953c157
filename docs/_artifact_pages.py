"""Write the artifact pages of the documentation from the cards and the raw rows."""

import dataclasses
import pathlib
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence

from _artifact_figures import Figures
from _artifact_returns import Comparison, Returns, shorten
from _board_page import run_times
from _explorer import write_explorer
from _gallery import Entry, gallery
from _surfaces import Surfaces

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


def write_pages(folder: pathlib.Path, raw: pathlib.Path) -> None:
    """Write one page per artifact, the gallery and the explorer into ``folder``.

    Samples of the rules and pictures are kept between builds.
    """
    # Remove the pages of artifacts that no longer exist.
    shutil.rmtree(folder / "artifact", ignore_errors=True)
    figures, surfaces = (
        Figures(folder),
        Surfaces(folder / "samples"),
    )
    cards, returns = artifacts.cards(), Returns(raw)
    samples = {name: surfaces.of(card) for name, card in cards.items()}
    times, entries = run_times(raw, cards), []
    for name, card in cards.items():
        page = folder / "artifact" / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        found, sampled = returns.of(name), samples[name]
        pictures = _pictures(card, sampled and figures.picture(sampled))
        measured = _measured(found, [figures.curves(one.rows) for one in found])
        text = _page(card, pictures, measured, _cost(card, times.get(name)))
        page.write_text(text + _learning_curve(name, page), encoding="utf-8")
        small = sampled and figures.thumbnail(sampled)
        short = next((one.percent() for one in found if one.steps == 1_000_000), {})
        entries.append(Entry(card, small, times.get(name), short))
    (folder / "gallery.md").write_text(gallery(entries), encoding="utf-8")
    write_explorer(folder, cards, samples)
    figures.remove_others()


def _page(card: Card, pictures: str, measured: str, cost: str) -> str:
    at_hand = not card.is_remote or remote.is_cached(card)
    artifact = artifacts.load(card.name) if at_hand else None
    sections = [
        "---\norphan: true\n---",
        f"# {_text(card.name)}\n\n[All artifacts](/artifacts.md){_explored(card)}",
        f"**{_text(card.title)}.** {_text(card.summary)}",
        _use(card),
        pictures,
        measured,
        "## Known failures\n\n" + _bullets(card.known_failures),
        *_function(artifact),
        "## Cost\n\n" + cost,
        "## Facts\n\n" + _table(["", ""], _facts(card)),
        "## Training\n\n" + _training(card),
        "## Results on the card\n\n" + _results(card),
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


def _pictures(card: Card, file: str | None) -> str:
    heading = f"## What the {_KINDS[card.kind]} does\n\n"
    if file is None:
        return (
            f"{heading}There is no picture, because the weights were not available "
            f"when this page was built. Run `learned-opt-rl fetch {card.name}` first."
        )
    return (
        f"{heading}![{_text(card.name)}](/_generated/{file})\n\n{_EXPLAINED[card.kind]}"
    )


_EXPLAINED = {
    "optimizer": """\
Above: the update of one parameter over its gradient and momentum, after 30 steps with
a constant gradient, with its own scale in each panel. Red is up and blue is down.
Below: the update where the gradient equals the momentum, and the closest Adam. Noise
is averaged over 16 draws. Rules that normalize a tensor or subtract a mean do so over
the points of the map. `learned-opt-rl plot` draws more panels, and the
[explorer](/explorer.md) moves through them.""",
    "drift": """\
Above: the slope of the policy loss over the ratio. Where it is negative, descent
raises the probability of the action. Below: the drift itself. `learned-opt-rl plot`
draws it over the log ratio, and the [explorer](/explorer.md) moves through the
advantages.""",
    "update_rule": """\
The policy target at each step of a rollout with a single reward, less the target
without a reward. The agent minimizes the target times the log probability of its
action, so a negative target makes the action more likely: the rule credits the
actions before the reward. Predictions are uniform, and the probability of each action
is 0.5.""",
}


def _explored(card: Card) -> str:
    """Return the link to the rule in the explorer, which has no update rules."""
    if card.kind == "update_rule":
        return ""
    root = "../" * (2 + card.name.count("/"))
    return f' · <a href="{root}explorer.html#{card.name}">Explore it</a>'


def _measured(found: Sequence[Comparison], pictures: Sequence[str]) -> str:
    """Return the section with the learning curves beside Adam's."""
    parts = ["## Learning curves"]
    for one, file in zip(found, pictures, strict=True):
        percent = one.percent()
        games = zip(shorten(percent), percent.values(), strict=True)
        shares = ", ".join(f"{value:.0f}% on {game}" for game, value in games)
        parts += [
            f"After {one.steps:,} steps, at least {one.seeds()} seeds"
            + (f"; final return relative to tuned Adam: {shares}" if shares else "")
            + f" (`{one.source}`).",
            f"![Learning curves of {_text(one.name)}](/_generated/{file})",
        ]
    if not found:
        parts.append("`results/` has no rows of this artifact.")
    return "\n\n".join(parts)


def _cost(card: Card, time: float | None) -> str:
    run = (
        "The time of a run was not measured."
        if time is None
        else f"A run of PPO on Breakout takes {time:.2g} times as long as with Adam."
    )
    return f"{run} The page about [overhead](/overhead.md) states the conditions."


def _fenced(info: str, text: str) -> str:
    """Return a block whose fence is longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{info}\n{text}\n{fence}"


def _facts(card: Card) -> list[list[str]]:
    inputs = f"{len(card.inputs)}: {', '.join(card.inputs)}"
    per = {"optimizer": "parameter", "drift": "sample", "update_rule": "step"}
    is_expression = card.weights.format == "expression"
    count = f"{card.weights.parameters:,} {'constants' if is_expression else 'weights'}"
    sha256 = card.weights.sha256
    rows = [
        ["Kind", _KINDS[card.kind]],
        ["Rule", f"`{card.algorithm}`, {card.representation}"],
        ["Architecture", _pairs(card.architecture)],
        [f"Inputs per {per[card.kind]}", _text(inputs)],
        ["Weights", f"{count}, {_text(card.weights.format)}"],
        # A place where a phone may break the line.
        ["sha256", f"<code>{sha256[:32]}<wbr>{sha256[32:]}</code>"],
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
