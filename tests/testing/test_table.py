"""The table of all artifacts' conformance: its rows, its file and its page."""

import json
import pathlib
import sys

import pytest

from learned_opt_rl import artifacts, testing
from learned_opt_rl.errors import UnknownArtifactError
from tests.broken_drifts import DRIFTS

NAMES = ["discovered/dpo", "discovered/conversation_tanh_clip"]


@pytest.fixture
def page(repository: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(repository / "docs")
    monkeypatch.delitem(sys.modules, "_conformance_page", raising=False)
    import _conformance_page

    return _conformance_page


def test_what_is_not_fetched_is_left_out(page) -> None:
    names = page.names_at_hand()
    local = [name for name, card in artifacts.cards().items() if not card.is_remote]
    assert names == sorted(local)


def test_rows_hold_every_check_once(page) -> None:
    make = DRIFTS["slopes_at_one"].make
    results = testing.conformance(make, kind="drift")
    results[0] = testing.CheckResult("gives_values", "skipped", "too late")
    row = page.row("mine", "drift", results)
    assert list(row["failed"]) == ["flat_at_one"]
    assert row["skipped"] == {"gives_values": "too late"}
    assert {*row["passed"], *row["failed"], *row["skipped"]} == set(
        testing.DRIFT_CHECKS
    )
    line = page.markdown([row]).splitlines()[-1]
    assert line == "| mine | drift | 4 of 6 | `flat_at_one` | `gives_values` |"


def test_an_unknown_name_is_an_error(page) -> None:
    with pytest.raises(UnknownArtifactError, match="did you mean 'discovered/dpo'"):
        page.check_all(["discovered/dop"])


def test_the_page_shows_the_file(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], page
) -> None:
    out = tmp_path / "conformance.json"
    assert page.main([*NAMES, "--out", str(out)]) == 0
    printed = capsys.readouterr().out.strip()
    rows = json.loads(out.read_text())["rows"]
    assert [row["artifact"] for row in rows] == NAMES
    assert all(len(row["passed"]) == 6 for row in rows)
    page.write_conformance(tmp_path / "docs", out)
    written = (tmp_path / "docs/conformance.md").read_text()
    assert written.startswith(printed)


def test_the_page_gives_the_reasons(tmp_path: pathlib.Path, page) -> None:
    row = page.row(
        "mine", "drift", [testing.CheckResult("flat_at_one", "failed", "a\nb")]
    )
    out = tmp_path / "conformance.json"
    out.write_text(json.dumps({"jax": "0", "platform": "cpu", "rows": [row]}))
    page.write_conformance(tmp_path, out)
    written = (tmp_path / "conformance.md").read_text()
    assert "- mine, `flat_at_one`: failed.\n\n  ```text\n  a\n  b\n" in written


def test_without_results_there_still_is_a_page(tmp_path: pathlib.Path, page) -> None:
    page.write_conformance(tmp_path, tmp_path / "missing.json")
    assert "no recorded results" in (tmp_path / "conformance.md").read_text()


def test_with_names_the_other_rows_of_the_file_stay(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, page
) -> None:
    def checked(outcome: str, names: list[str]) -> list[dict]:
        row = {"kind": "drift", "passed": [outcome], "failed": {}, "skipped": {}}
        return [{"artifact": name, **row} for name in names]

    out = tmp_path / "conformance.json"
    rows = checked("before", ["no longer there", *NAMES])
    out.write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr(page, "check_all", lambda names: checked("now", names))
    assert page.main([NAMES[0], "--out", str(out)]) == 0
    found = json.loads(out.read_text())["rows"]
    assert found == checked("before", NAMES[1:]) + checked("now", NAMES[:1])
