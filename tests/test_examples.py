"""Every example runs as its docstring says, and gets somewhere."""

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
