import pytest

from learned_opt_rl.evaluation import results


def test_rows_come_back_in_order(tmp_path):
    file = tmp_path / "new" / "folder" / "results.jsonl"
    rows = [{"rule": "adam", "seed": i, "curve": [0.5, None]} for i in range(3)]
    results.append(file, rows[:2])
    results.append(file, rows[2:])
    assert results.read(file) == rows
    assert [path.name for path in file.parent.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize("bad", [float("nan"), object()])
def test_a_row_that_is_not_json_leaves_the_file_as_it_was(tmp_path, bad):
    file = tmp_path / "results.jsonl"
    results.append(file, [{"seed": 0}])
    with pytest.raises((TypeError, ValueError)):
        results.append(file, [{"seed": 1}, {"seed": bad}])
    assert results.read(file) == [{"seed": 0}]


@pytest.mark.parametrize(
    ("line", "message"), [("{", "line 2 is not JSON"), ("[]", "line 2 holds a list")]
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, line, message):
    file = tmp_path / "results.jsonl"
    file.write_text(f"{{}}\n{line}\n")
    with pytest.raises(ValueError, match=message):
        results.read(file)
