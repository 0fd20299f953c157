"""Write the gallery: a card with a thumbnail for each artifact, in groups."""

import html
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from learned_opt_rl import envs
from learned_opt_rl.artifacts import Card

_RECOMMENDED = ("lpo/minatar", "proposed/drift", "proposed/optimizer", "minatar")

# Rules that other rules are compared with or started from, negative examples, and
# students that test distillation.
_HISTORICAL = (
    "breakout",
    "discovered/archive_",
    "discovered/lpo_symbolic_ant_as_printed",
    "discovered/no_features_symbolic_ant",
    "discovered/open_llm_ant",
    "discovered/open_symbolic_ant",
    "distilled/",
    "optim4rl/",
)

_GROUPS = {
    "recommended": (
        "Recommended",
        "Start here. [Which artifact?](which.md) explains when to use each.",
    ),
    "optimizer": ("Optimizers", "They replace Adam."),
    "drift": ("Drifts", "They replace PPO's clip."),
    "update_rule": ("Update rules", "They replace the whole objective."),
    "historical": (
        "Baselines and historical",
        "Starting points of searches, ablations of distillation, and published rules "
        "that failed.",
    ),
}

_KINDS = {"optimizer": "optimizer", "drift": "drift", "update_rule": "update rule"}


class Entry(NamedTuple):
    """What the gallery shows of an artifact."""

    card: Card
    thumbnail: str | None  # path of the picture from the page
    time: float | None  # of a run, relative to Adam's
    percent: Mapping[str, float]  # of tuned Adam's return after 1e6 steps


def gallery(entries: Iterable[Entry]) -> str:
    """Return the gallery as Markdown with HTML; it can be sorted with JavaScript."""
    groups: dict[str, list[Entry]] = {name: [] for name in _GROUPS}
    for entry in entries:
        groups[_group(entry.card)].append(entry)
    groups["recommended"].sort(key=lambda one: _RECOMMENDED.index(one.card.name))
    games = envs.suite("minatar")
    parts = [_raw(_controls(games))]
    for name, (title, text) in _GROUPS.items():
        cards = "\n".join(_card(entry, games) for entry in groups[name])
        parts += [f"## {title}", text, _raw(f'<div class="gallery">\n{cards}\n</div>')]
    return "\n\n".join(parts) + "\n"


def _group(card: Card) -> str:
    if card.name in _RECOMMENDED:
        return "recommended"
    # An update rule is shown with the others of its kind, also if it was distilled.
    old = card.name.startswith(_HISTORICAL) and card.kind != "update_rule"
    return "historical" if old else card.kind


def _controls(games: Iterable[str]) -> str:
    options = {"": "default order", "time": "run time", "size": "size"}
    options |= {game: f"return on {game.removesuffix('-MinAtar')}" for game in games}
    choices = "".join(f'<option value="{k}">{v}</option>' for k, v in options.items())
    return (
        '<p class="gallery-sort" hidden><label>Sort each group by '
        f"<select>{choices}</select></label></p>\n"
        '<script src="_static/gallery.js" defer></script>'
    )


def _card(entry: Entry, games: Iterable[str]) -> str:
    card, name = entry.card, html.escape(entry.card.name)
    unit = "constant" if card.weights.format == "expression" else "weight"
    count = card.weights.parameters
    size = f"{count:,} {unit}{'' if count == 1 else 's'}"
    time = (
        "time not measured"
        if entry.time is None
        else f"{entry.time:.2g}× Adam's run time"
    )
    values = {"time": entry.time, "size": count}
    values |= {game: entry.percent.get(game) for game in games}
    data = " ".join(
        f'data-{key.lower()}="{value:g}"'
        for key, value in values.items()
        if value is not None
    )
    returns = ", ".join(
        f"{game.removesuffix('-MinAtar')} {entry.percent[game]:.0f}%"
        for game in games
        if game in entry.percent
    )
    image = (
        f'<img src="{entry.thumbnail}" alt="" width="242" height="132" loading="lazy">'
        if entry.thumbnail
        else ""
    )
    return (
        f'<a class="gallery-card" href="_generated/artifact/{name}.html" {data}>{image}'
        f"<strong>{name}</strong><span>{html.escape(card.summary)}</span>"
        f"<small>{_KINDS[card.kind]}, {size}, {time}</small>"
        f"<small>{returns or 'no returns on MinAtar after 1e6 steps'}</small></a>"
    )


def _raw(text: str) -> str:
    return f"```{{raw}} html\n{text}\n```"
