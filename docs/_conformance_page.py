"""Write the conformance table of the documentation from results/conformance.json."""

import json
import pathlib

from learned_opt_rl.testing.table import markdown

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results/conformance.json"


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
