"""The discovery curve: scores in order, the best so far, and what they compare with."""

import numpy as np
import pytest

from learned_opt_rl import cli
from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.training.evolution.progress import CURVE
from learned_opt_rl.training.proposal import curve
from tests.training import test_discovery, test_proposal


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figures that were saved, in place of files."""
    found = []
    monkeypatch.setattr(figures, "save", lambda one, *_: found.append(one.axes[0]))
    return found


def lines(axes):
    return {line.get_label(): line.get_ydata() for line in axes.get_lines()}


def compared(axes):
    dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    return {line.get_label(): line.get_ydata()[0] for line in dashed}


def test_a_conversation_shows_fitness_and_the_first_algorithm(tmp_path, drawn):
    test_proposal.run(tmp_path)
    outcomes = [e for e in test_proposal.events(tmp_path) if e["event"] == "outcome"]
    fitness = [e["fitness"] for e in outcomes if e["fitness"] is not None]
    curve.draw_curve(tmp_path, "unused.png")
    shown = lines(drawn[0])
    assert len(fitness) > 1 and shown["each"].tolist() == fitness
    assert shown["best so far"].tolist() == np.maximum.accumulate(fitness).tolist()
    (warm,) = [e for e in test_proposal.events(tmp_path) if e["event"] == "warm"]
    assert compared(drawn[0]) == {warm["name"]: warm["fitness"]}


def test_a_discovery_shows_ranks_and_the_ranked_rules(tmp_path, drawn):
    replies = [test_discovery.think(str(i)) for i in range(3)]
    codes = [test_discovery.write(f"{k}.0 * g") for k in (4, 3, 5)]
    table = {test_discovery.text_of(f"{k}.0 * g"): float(k) for k in (3, 4, 5)}
    table["adam:1e-3"] = 3.5
    provider = test_discovery.Roles(replies, codes)
    scores = test_discovery.Scores(table)
    options = {"refinements": 3, "ranked": ("adam:1e-3",)}
    test_discovery.discovery(tmp_path, provider, scores, **options).run()
    curve.draw_curve(tmp_path, "unused.png")
    (axes,) = drawn
    shown = lines(axes)
    # The two first members tie below adam:1e-3, which beats one candidate.
    assert shown["each"].tolist() == [2, 4, 1]
    assert shown["best so far"].tolist() == [2, 2, 1]
    first = {"plain, a first member": 5.5}
    assert compared(axes) == {"adam:1e-3": 3} | first
    assert axes.yaxis_inverted()


def test_the_command_draws_a_search_and_refuses_one_without_scores(tmp_path, capsys):
    test_proposal.run(tmp_path / "run")
    assert cli.main(["train", "curve", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / CURVE).read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    empty = tmp_path / "empty"
    provider = test_proposal.Scripted(["no JSON"] * 4)
    test_proposal.run(empty, provider)
    assert cli.main(["train", "curve", str(empty)]) == 2
    message = f"{empty} has no candidate with a score; continue the search\n"
    assert capsys.readouterr().err.endswith(message)
    assert not (empty / CURVE).exists()
