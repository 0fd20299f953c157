"""Write the explorer: the samples of each rule as a script, and the list of rules.

The samples are scripts instead of JSON, because a page opened from a disk must not
fetch files.
"""

import html
import json
import pathlib
import shutil
from collections.abc import Mapping

from _surfaces import (
    ADVANTAGES,
    DORMANCIES,
    PROGRESS,
    RATIOS,
    SCALE,
    SIZE,
    Samples,
    sample_adam,
    sample_ppo,
)

from learned_opt_rl.artifacts import Card

_GROUPS = {"optimizer": "Optimizers", "drift": "Drifts"}
_FIRST = "proposed/optimizer"

# The axes: all points, or the first and the last of an even grid and their number.
_AXES = {
    "progress": PROGRESS,
    "dormancy": DORMANCIES,
    "momentum": [-SCALE, SCALE, SIZE],
    "gradient": [-SCALE, SCALE, SIZE],
    "ratio": [float(RATIOS[0]), float(RATIOS[-1]), len(RATIOS)],
    "advantage": [float(ADVANTAGES[0]), float(ADVANTAGES[-1]), len(ADVANTAGES)],
}


def write_explorer(
    folder: pathlib.Path,
    cards: Mapping[str, Card],
    samples: Mapping[str, Samples | None],
) -> None:
    """Write a script of samples per rule, and ``explorer.md`` with the list."""
    data = folder / "static/explorer"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    shown = {name: found for name, found in samples.items() if found}
    for name, found in {"Adam": sample_adam(), "PPO": sample_ppo(), **shown}.items():
        path = data / f"{name.replace('/', '-')}.js"
        text = json.dumps(found, separators=(",", ":"))
        path.write_text(f"explorer.add({json.dumps(name)},{text});\n", "utf-8")
    lists = []
    for kind, title in _GROUPS.items():
        names = [name for name in shown if cards[name].kind == kind]
        options = "".join(_option(name) for name in names)
        lists.append(f'<optgroup label="{title}">{options}</optgroup>')
    select = f'<select id="explorer-rule">{"".join(lists)}</select>'
    text = (
        f"<p><label>Rule {select}</label></p>"
        f"<script>const explorer = {{axes: {json.dumps(_AXES)}}};</script>"
        '<script src="_static/explorer.js"></script>'
    )
    (folder / "explorer.md").write_text(f"```{{raw}} html\n{text}\n```\n", "utf-8")


def _option(name: str) -> str:
    chosen = " selected" if name == _FIRST else ""
    return f"<option{chosen}>{html.escape(name)}</option>"
