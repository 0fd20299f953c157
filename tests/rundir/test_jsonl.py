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
        ('{"a": NaN}', "line 2 is not valid JSON .NaN is not a number of JSON; write"),
        ('{"a": -Infinity}', "line 2 is not valid JSON .-Infinity is not a number"),
        ('{"a": 1, "b": 2, "a": 3}', "line 2 is not valid JSON .it has 'a' twice"),
        ('{"a": ' + "[" * 100_000, "line 2 is not valid JSON .maximum recursion"),
        ('{"a": 1' + "0" * 5000 + "}", "line 2 is not valid JSON .Exceeds the limit"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, line, message):
    file = tmp_path / "results.jsonl"
    file.write_bytes(f"{{}}\n{line}\n{{}}\n".encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        jsonl.read(file)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    file = tmp_path / "results.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"seed": 0}\r\n{"seed": 1}\r\n')
    jsonl.append(file, [{"seed": 2}])
    assert jsonl.read(file) == [{"seed": seed} for seed in range(3)]


TORN = {"rule": 'ad"\\\xe4m', "config": {"hidden": [[64], {}]}, "curve": [0.5, None]}


@pytest.mark.parametrize("before", [0, 1])
def test_a_torn_last_line_is_reported_never_counted_and_kept_aside(tmp_path, before):
    file, aside = tmp_path / "results.jsonl", tmp_path / "results.jsonl.torn"
    whole = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS[:before])
    text = json.dumps(TORN, ensure_ascii=False).encode()
    torn = [text[:length] for length in range(1, len(text))]
    for line in [*torn, torn[20] + bytes(9), bytes(9)]:
        file.write_bytes(whole + line)
        with pytest.warns(UserWarning, match=f"unfinished line .{len(line)} bytes"):
            assert jsonl.read(file) == ROWS[:before]
        jsonl.append(file, ROWS[2:])
        assert jsonl.read(file) == [*ROWS[:before], ROWS[2]]
        assert aside.read_bytes() == line + b"\n"
        aside.unlink()
    # Only its end is missing: the row is all there.
    file.write_bytes(whole + text)
    assert jsonl.read(file) == [*ROWS[:before], TORN]
    jsonl.append(file, ROWS[2:])
    assert jsonl.read(file) == [*ROWS[:before], TORN, ROWS[2]]
    assert not aside.exists()


LIST = json.dumps([{"rule": "adam"}] * 20)


@pytest.mark.parametrize(
    "content",
    [
        *(LIST.encode(), b"42", b"notes of three weeks", b"{'a': 1}", b'{"a": 1,}'),
        *(b"\n", b"a,b\n1,2\n", b'{\n "a": 1\n}', b'{"a": 1}\nnotes', b"\x89PNG\r\n"),
        *('{"a": 1}\n'.encode(code) for code in ("utf-16", "utf-16-le", "utf-32")),
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    file = tmp_path / "results.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="results.json is not a file of results, so"):
        jsonl.append(file, ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert file.read_bytes() == content


def test_a_line_longer_than_what_is_read_at_a_time(tmp_path):
    file = tmp_path / "results.jsonl"
    long = {"curve": [0.5] * 100_000}
    for _ in range(2):
        jsonl.append(file, [long])
    file.write_bytes(file.read_bytes()[:-1])
    jsonl.append(file, ROWS)
    assert jsonl.read(file) == [long, long, *ROWS]


def test_an_interrupted_append_adds_nothing(tmp_path, monkeypatch):
    file = tmp_path / "results.jsonl"
    jsonl.append(file, ROWS[:1])

    def full(handle):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        jsonl.append(file, ROWS[1:])
    assert jsonl.read(file) == ROWS[:1]
