import json
import os

import pytest

from learned_opt_rl.rundir import jsonl

ROWS = [{"rule": "adäm", "seed": i, "curve": [0.5, None]} for i in range(3)]


def test_rows_come_back_in_order(tmp_path):
    file = tmp_path / "new" / "folder" / "results.jsonl"
    jsonl.append(file, ROWS[:2])
    jsonl.append(file, ROWS[2:])
    assert jsonl.read(file) == ROWS
    assert [path.name for path in file.parent.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize("bad", [float("nan"), object()])
def test_a_row_that_is_not_json_leaves_the_file_as_it_was(tmp_path, bad):
    file = tmp_path / "results.jsonl"
    jsonl.append(file, [{"seed": 0}])
    with pytest.raises((TypeError, ValueError)):
        jsonl.append(file, [{"seed": 1}, {"seed": bad}])
    assert jsonl.read(file) == [{"seed": 0}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not valid JSON"),
        ("[]", "line 2 holds a list"),
        ("", "line 2 is not valid JSON"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "line 2 is not valid JSON"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, line, message):
    file = tmp_path / "results.jsonl"
    file.write_bytes(f"{{}}\n{line}\n{{}}\n".encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        jsonl.read(file)


def test_a_torn_last_line_is_reported_never_counted_and_cut_off(tmp_path):
    file = tmp_path / "results.jsonl"
    jsonl.append(file, ROWS[:1])
    whole = file.read_bytes()
    text = json.dumps(ROWS[1], ensure_ascii=False).encode()
    for length in range(1, len(text)):
        file.write_bytes(whole + text[:length])
        with pytest.warns(UserWarning, match=f"unfinished line .{length} bytes"):
            assert jsonl.read(file) == ROWS[:1]
        jsonl.append(file, ROWS[2:])
        assert jsonl.read(file) == [ROWS[0], ROWS[2]]
    # Only its end is missing: the row is all there.
    file.write_bytes(whole + text)
    assert jsonl.read(file) == ROWS[:2]
    jsonl.append(file, ROWS[2:])
    assert jsonl.read(file) == ROWS


def test_an_interrupted_append_adds_nothing(tmp_path, monkeypatch):
    file = tmp_path / "results.jsonl"
    jsonl.append(file, ROWS[:1])

    def full(handle):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        jsonl.append(file, ROWS[1:])
    assert jsonl.read(file) == ROWS[:1]
