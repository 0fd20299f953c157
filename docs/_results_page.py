"""Tables of measured results for the documentation, from the raw rows."""

import pathlib

from learned_opt_rl.evaluation import results, tables


def write_table(folder: pathlib.Path, rows: pathlib.Path) -> None:
    """Write ``NAME.md``, a table of the rows of ``NAME.jsonl``, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    table = tables.markdown(results.read(rows))
    (folder / f"{rows.stem}.md").write_text(table + "\n", encoding="utf-8")
