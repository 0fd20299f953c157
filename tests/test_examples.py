"""Every example runs as its docstring says, and gets somewhere."""

import re
import runpy
import sys

import numpy as np
import pytest

EXAMPLES = {
    "smallest_loop": [],
    "dormancy": ["--steps", "150"],
    "single_module_networks": ["--steps", "150"],
    "multi_transform": ["--steps", "150"],
}


def run(repository, monkeypatch, capsys, name, arguments):
    path = repository / "examples" / f"{name}.py"
    assert len(path.read_text().splitlines()) < 60
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    found = re.search(r"before (\S+), after ([\d.]+)", printed)
    assert found, printed
    before, after = map(float, found.groups())
    assert np.isfinite([before, after]).all()
    return before, after, printed


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_loss_falls(repository, monkeypatch, capsys, name):
    before, after, _ = run(repository, monkeypatch, capsys, name, EXAMPLES[name])
    assert after < 0.8 * before


def test_single_module_networks_tells_actor_from_critic(
    repository, monkeypatch, capsys
):
    name = "single_module_networks"
    *_, printed = run(repository, monkeypatch, capsys, name, ["--steps", "2"])
    networks = re.findall(r"params/Dense_(\d)/kernel +(\w+) +([\d.]+)", printed)
    assert networks == [
        (str(i), "actor" if i < 3 else "critic", ("0.0", "0.5", "1.0")[i % 3])
        for i in range(6)
    ]


def test_ppo_minatar_plays(repository, monkeypatch, capsys):
    arguments = ["--steps", "2048", "--num-envs", "8"]
    *_, printed = run(repository, monkeypatch, capsys, "ppo_minatar", arguments)
    assert "2 rollouts, 64 optimiser steps" in printed
