"""Every example runs as its docstring says, and gets somewhere."""

import pytest

from tests.scripts import before_and_after, run_script


def run(repository, name, *arguments):
    path = repository / "examples" / f"{name}.py"
    assert len(path.read_text().splitlines()) < 60
    return run_script(path, *arguments)[1]


def test_smallest_loop_learns(repository):
    [[before, after]] = before_and_after(run(repository, "smallest_loop"))
    assert after < 0.8 * before


def test_ppo_minatar_plays(repository):
    arguments = "--steps", "2048", "--num-envs", "8"
    printed = run(repository, "ppo_minatar", *arguments)
    before_and_after(printed)
    assert "2 rollouts, 64 optimizer steps" in printed


@pytest.mark.slow
def test_the_demo_writes_a_report_and_names_what_to_try_next(repository, tmp_path):
    rules = "--rules", "adam:1e-3", "sgd:1e-2"
    where = "--steps", "32768", "--seeds", "1", "--out", str(tmp_path)
    printed = run(repository, "demo", *rules, *where)
    assert "Rules that ran: adam:1e-3, sgd:1e-2" in printed
    assert "next:\n  learned-opt-rl show lpo/minatar" in printed
    assert (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_first_run_draws_the_picture_of_the_quickstart(repository, tmp_path):
    printed = run(repository, "first_run", str(tmp_path / "curves.svg"))
    head, _, *lines = printed.splitlines()
    assert head.split() == ["final_return", "low", "high", "seeds"]
    assert [line.split()[-5] for line in lines] == ["adam", "lpo/minatar"]
    assert (tmp_path / "curves.svg").read_text().count("<path") > 10
