import errno
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import types
import warnings
from typing import Any, get_args, get_type_hints

import numpy as np
import pooch
import pytest
import tyro

from learned_opt_rl import __version__, artifacts, cli, envs
from learned_opt_rl.agents.presets import CONFIGS
from learned_opt_rl.artifacts import registry, remote
from learned_opt_rl.cli import _arguments
from learned_opt_rl.evaluation.report import write
from learned_opt_rl.evaluation.runs import cell, compare, cost, plan
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.rundir.progress import output
from tests.artifact_files import (
    PARAMETERS,
    card_data,
    file_server,
    install_plugin,
    npy_bytes,
    remote_card_data,
    send,
    write_artifact,
    write_card,
)

CONTENT = npy_bytes(np.arange(PARAMETERS, dtype=np.float32))


@pytest.fixture(autouse=True)
def bundled(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A bundled folder with a local and a remote artifact."""
    root = tmp_path / "pretrained"
    write_artifact(root / "tiny", "tiny")
    write_card(root / "far/tiny", remote_card_data(CONTENT))
    monkeypatch.setattr(registry, "bundled_root", lambda: root)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # Its handler keeps the stderr of the first test, which is closed by now.
    monkeypatch.setattr(pooch.get_logger(), "disabled", True)
    return root


@pytest.fixture
def plugin(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder of an installed plugin package, ``zoo``."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)
    return install_plugin(site, "zoo", "[learned_opt_rl.artifacts]\nzoo = zoo")


DRIFT = "# A remark,  kept.\ndrift\ninputs r,A\nreturn ((r - 1)**2 * abs(A))\n"


def write_drift(folder: pathlib.Path, name: str, text: str = DRIFT) -> pathlib.Path:
    """Write a closed-form drift and its card; return the text's path."""
    shape = {"kind": "drift", "architecture": {"offset": 0.0}, "horizon": None}
    return write_closed_form(folder, name, text, **shape)


def write_closed_form(
    folder: pathlib.Path, name: str, text: str, **changes: Any
) -> pathlib.Path:
    """Write a closed form and its card; return the text's path."""
    weights = {
        "file": "expression.txt",
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "parameters": 0,
        "format": "expression",
    }
    changes |= {"algorithm": "expression", "representation": "expression"}
    write_card(folder, card_data(name, weights=weights, **changes))
    (folder / "expression.txt").write_text(text, encoding="utf-8")
    return folder / "expression.txt"


def fill_cache(content: bytes) -> pathlib.Path:
    """Put ``content`` where the remote artifact's weights are cached."""
    path = remote.cached_path(artifacts.card("far/tiny"))
    path.write_bytes(content)
    return path


class TestList:
    def test_one_line_per_artifact(
        self, plugin: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_artifact(plugin, "zoo/tiny")
        assert cli.main(["list"]) == 0
        header, *rows = capsys.readouterr().out.splitlines()
        assert header.split() == [
            "NAME", "KIND", "SOURCE", "SUMMARY", "ALGORITHM", "PARAMETERS", "LICENSE",
        ]  # fmt: skip
        column = header.index("SOURCE"), header.index("SUMMARY")
        sources = {row.split()[0]: row[slice(*column)].strip() for row in rows}
        assert sources == {
            "far/tiny": "remote",
            "tiny": "bundled",
            "zoo/tiny": "plugin zoo",
        }
        for row in rows:
            assert row.split()[-5:] == ["For", "tests.", "open", str(PARAMETERS), "MIT"]

    def test_the_cache_is_shown(self, capsys: pytest.CaptureFixture[str]) -> None:
        fill_cache(CONTENT)
        assert cli.main(["list"]) == 0
        assert " cached " in capsys.readouterr().out

    def test_a_broken_plugin_is_a_warning(
        self, plugin: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_card(plugin, card_data("zoo/bad", license="unknown"))
        assert cli.main(["list"]) == 0
        captured = capsys.readouterr()
        assert "tiny" in captured.out
        assert "zoo/bad" not in captured.out
        assert captured.err.startswith("warning: plugin zoo: ")
        assert "license is 'unknown'" in captured.err

    def test_lines_fit_the_terminal(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        assert cli.main(["list"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) == 40
        assert lines[0].endswith("…")

    def test_json_has_the_kind_and_is_filtered_by_it(
        self, bundled: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_drift(bundled / "square", "square")
        assert cli.main(["list", "--kind", "drift", "--json"]) == 0
        (only,) = json.loads(capsys.readouterr().out)
        assert (only["name"], only["kind"], only["source"]) == (
            "square",
            "drift",
            "bundled",
        )
        assert cli.main(["list", "suites", "--kind", "drift"]) == 2
        assert "only artifacts have a kind" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("what", "name", "text"),
        [
            ("suites", "brax", "ant, humanoid, hopper, walker2d"),
            ("environments", "Breakout-MinAtar", "minatar, minatar5"),
            ("presets", "cartpole", "num_envs=4"),
            ("presets", "lpg-cpu", "train lpg"),
        ],
    )
    def test_names_for_other_options(
        self, what: str, name: str, text: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["list", what]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert any(line.startswith(f"{name} ") and text in line for line in lines)


class TestShow:
    def test_json_is_the_card(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["show", "tiny", "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown == artifacts.card("tiny").to_dict()

    def test_the_page_says_what_the_card_says(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["show", "tiny"]) == 0
        page = capsys.readouterr().out
        assert page.startswith("tiny: A tiny optimizer\n\nFor tests.\n")
        for line in (
            "source        bundled",
            f"architecture  carry 2, width 3; {PARAMETERS} parameters",
            "horizon       320 updates, 4 epochs of 8 minibatches",
            "license       MIT",
            "- Breakout-MinAtar, 1,000 steps: final return 1.5 [1, 2] over 2 seeds",
            "- Everything.",
        ):
            assert line in page
        assert max(map(len, page.splitlines())) <= 88

    def test_absent_facts_are_said_to_be_absent(
        self, bundled: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        changes = {"horizon": None, "results": [], "known_failures": []}
        write_artifact(bundled / "bare", "bare", **changes)
        assert cli.main(["show", "bare"]) == 0
        page = capsys.readouterr().out
        assert "horizon       any" in page
        assert "Results\n- not measured yet" in page
        assert "Known failures\n- none recorded" in page
        assert "command" not in page

    def test_a_closed_form_is_shown_as_it_is_stored(
        self, bundled: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_drift(bundled / "square", "square")
        assert cli.main(["show", "square"]) == 0
        page = capsys.readouterr().out
        assert f"\n\nFunction\n{DRIFT}\nResults\n" in page

    def test_weights_are_no_function(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["show", "tiny"]) == 0
        assert "Function" not in capsys.readouterr().out

    def test_a_closed_form_that_is_not_the_cards_is_not_shown(
        self, bundled: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_drift(bundled / "square", "square").write_text(DRIFT + "# more\n")
        assert cli.main(["show", "square"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "sha256" in captured.err

    def test_a_remark_cannot_steer_the_terminal(
        self, bundled: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_drift(bundled / "red", "red", "# \x1b[31mred\n" + DRIFT)
        assert cli.main(["show", "red"]) == 0
        assert "Function\n# \\x1b[31mred\n# A remark" in capsys.readouterr().out


class TestVerify:
    def verify(
        self, capsys: pytest.CaptureFixture[str], *names: str
    ) -> tuple[int, dict[str, str]]:
        """The exit status, and the first words of each artifact's line."""
        status = cli.main(["verify", *names])
        lines = capsys.readouterr().out.splitlines()
        return status, {line[13:].split(":")[0]: line[:12].strip() for line in lines}

    def test_intact(self, capsys: pytest.CaptureFixture[str]) -> None:
        expected = {"tiny": "ok", "far/tiny": "not fetched"}
        assert self.verify(capsys) == (0, expected)
        fill_cache(CONTENT)
        assert self.verify(capsys) == (0, {"tiny": "ok", "far/tiny": "ok"})

    def test_damaged_bundled_weights(
        self, bundled: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (bundled / "tiny/weights.safetensors").write_bytes(b"damaged")
        expected = {"tiny": "FAILED", "far/tiny": "not fetched"}
        assert self.verify(capsys) == (1, expected)
        assert self.verify(capsys, "far/tiny") == (0, {"far/tiny": "not fetched"})
        assert self.verify(capsys, "tiny") == (1, {"tiny": "FAILED"})

    def test_damaged_cached_weights(self, capsys: pytest.CaptureFixture[str]) -> None:
        fill_cache(b"damaged")
        assert self.verify(capsys) == (1, {"tiny": "ok", "far/tiny": "FAILED"})

    def test_weights_that_match_their_digest_but_not_their_card(
        self, bundled: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = {"carry": 3, "width": 3}
        write_artifact(bundled / "tiny", "tiny", architecture=other)
        assert cli.main(["verify", "tiny"]) == 1
        assert "architecture asks for (3,)" in capsys.readouterr().out

    def test_a_broken_plugin_fails(
        self, plugin: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_card(plugin, card_data("zoo/bad", schema=2))
        status, report = self.verify(capsys)
        assert status == 1
        assert report["zoo/bad"] == "FAILED"
        assert report["tiny"] == "ok"


class TestFetch:
    def test_a_remote_artifact(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with file_server(lambda handler: send(handler, CONTENT)) as (address, asked):
            monkeypatch.setenv("LEARNED_OPT_RL_MIRROR", address)
            assert cli.main(["fetch", "far/tiny"]) == 0
            assert cli.main(["fetch", "far/tiny"]) == 0
        assert len(asked) == 1
        path = remote.cached_path(artifacts.card("far/tiny"))
        line = f"far/tiny is verified and cached: {path}"
        assert capsys.readouterr().out.splitlines() == [line, line]

    def test_a_failure_is_one_line(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with file_server(lambda handler: handler.send_error(404)) as (address, _):
            monkeypatch.setenv("LEARNED_OPT_RL_MIRROR", address)
            assert cli.main(["fetch", "far/tiny"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: far/tiny: http://127.0.0.1:")

    def test_pooch_missing(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pooch", None)
        assert cli.main(["fetch", "far/tiny"]) == 2
        assert "pip install 'learned-opt-rl[remote]'" in capsys.readouterr().err

    def test_a_local_artifact(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["fetch", "tiny"]) == 0
        assert "is installed (bundled); nothing to fetch" in capsys.readouterr().out


class TestPlot:
    @pytest.fixture(autouse=True)
    def drifts(self, bundled: pathlib.Path) -> None:
        write_drift(bundled / "square", "square")
        write_drift(bundled / "zoo/other", "zoo/other", DRIFT + "# Another.\n")
        text, form = "optimizer\ninputs g\nreturn g\n", {"zero_mean": False}
        write_closed_form(bundled / "step", "step", text, architecture=form)

    def test_an_optimizer_alone_and_drifts_together(
        self, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "new/folder"
        names = ["square", "step", "zoo/other", "step"]
        assert cli.main(["plot", *names, "--out", str(folder)]) == 0
        expected = [folder / "step.png", folder / "drifts.png"]
        assert capsys.readouterr().out.splitlines() == [str(path) for path in expected]
        assert sorted(folder.iterdir()) == sorted(expected)
        for path in expected:
            assert path.read_bytes().startswith(b"\x89PNG")

    def test_one_picture_may_have_a_name(self, tmp_path: pathlib.Path) -> None:
        file = tmp_path / "here.PNG"
        assert cli.main(["plot", "zoo/other", "--out", str(file)]) == 0
        assert file.read_bytes().startswith(b"\x89PNG")

    def test_by_default_pictures_are_here_and_named_after_the_artifact(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        assert cli.main(["plot", "zoo/other"]) == 0
        assert [path.name for path in here.iterdir()] == ["zoo_other.png"]

    def test_several_pictures_do_not_fit_one_file(
        self, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "one.png"
        assert cli.main(["plot", "tiny", "square", "--out", str(file)]) == 2
        assert (
            f"--out {file} is one file, but there are 2 pictures (tiny.png, "
            "square.png); give a folder" in capsys.readouterr().err
        )

    def test_an_update_rule_has_no_picture(
        self,
        bundled: pathlib.Path,
        tmp_path: pathlib.Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        rule = card_data("rule", kind="update_rule", algorithm="somebodys")
        write_card(bundled / "rule", rule)
        out = tmp_path / "pictures"
        assert cli.main(["plot", "square", "rule", "--out", str(out)]) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: artifact 'rule' is an update rule: ")
        assert not out.exists()

    def test_what_is_not_fetched_is_not_drawn(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["plot", "far/tiny"]) == 2
        assert "learned-opt-rl fetch far/tiny" in capsys.readouterr().err

    def test_matplotlib_missing(
        self,
        tmp_path: pathlib.Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        for name in ("square", "tiny"):
            assert cli.main(["plot", name, "--out", str(tmp_path)]) == 2
            assert "pip install 'learned-opt-rl[eval]'" in capsys.readouterr().err

    def test_a_folder_that_cannot_be_made_is_one_line(
        self, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").write_text("")
        assert cli.main(["plot", "square", "--out", str(tmp_path / "file/sub")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and "file" in line


class TestCompare:
    """What the command line makes of `evaluation.compare`, which has its own tests."""

    ONE_ROW = {
        "rule": "adam:1e-3",
        "environment": "CartPole-v1",
        "seed": 0,
        "total_timesteps": 10_000,
        "final_return": 24.0,
        "steps_per_second": 1.0,
        "compile_seconds": 1.0,
        "wall_seconds": 1.0,
        "num_agents": 1,
        "diverged": False,
        "curve": [20.0, 24.0],
        "config": {"num_envs": 4, "num_steps": 125},
    }

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[plan.Comparison]:
        """What was asked; nothing is run."""
        found: list[plan.Comparison] = []

        def prepare(asked: plan.Comparison) -> plan.Plan:
            found.append(asked)
            make: Any = CONFIGS[asked.agent]
            config = make(asked.total_timesteps)
            cells = [
                cell.Cell(rule, types.SimpleNamespace(name=name), config, {})  # type: ignore
                for rule in asked.rules
                for name in asked.environments
            ]
            return plan.Plan({}, cells, [], asked.end, 1)

        monkeypatch.setattr(plan, "prepare", prepare)
        return found

    def main(self, tmp_path: pathlib.Path, *arguments: str) -> int:
        where = ["--environments", "CartPole-v1", "--out", str(tmp_path / "out")]
        return cli.main([*arguments, *where])

    def execute(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *failures: compare.Failure,
        error: BaseException | None = None,
    ) -> None:
        def execute(plan: Any, folder: pathlib.Path, **_: Any) -> list[compare.Failure]:
            if error is not None:
                raise error
            jsonl.append(folder / "rows.jsonl", [self.ONE_ROW])
            return list(failures)

        monkeypatch.setattr(compare, "execute", execute)
        monkeypatch.setattr(
            write,
            "write",
            lambda folder, plan, **how: (
                f"a table of {how | {'plan': type(plan).__name__}}",
                [folder / "x"],
            ),
        )

    def test_options_are_passed_on(
        self,
        asked: list[plan.Comparison],
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.execute(monkeypatch)
        numbers = ["--seeds", "3", "--first-seed", "5", "--at-once", "2"]
        options = [*numbers, "--steps", "1e5", "--agent", "a2c"]
        settings = ["--devices", "2", "--set", "hidden=8x8", "gamma=1"]
        assert self.main(tmp_path, "compare", "adam", "lion", *options, *settings) == 0
        assert asked == [
            plan.Comparison(
                rules=("adam", "lion"),
                environments=("CartPole-v1",),
                seeds=3,
                total_timesteps=1e5,
                first_seed=5,
                agent="a2c",
                at_once=2,
                devices=2,
                settings=("hidden=8x8", "gamma=1"),
            )
        ]
        assert capsys.readouterr().out.splitlines() == [
            "a table of {'width': None, 'normalization': 'auto', 'baseline': None, "
            "'title': None, 'only': (), 'plan': 'Plan'}",
            str(tmp_path / "out" / "x"),
        ]

    @pytest.mark.parametrize(
        "words",
        [
            ["adam", "lion", "--environments", "CartPole-v1", "ant"],
            ["adam", "lion", "--environments", "CartPole-v1", "--environments", "ant"],
            ["--environments", "CartPole-v1", "--environments", "ant", "adam", "lion"],
        ],
    )
    def test_an_option_does_not_take_the_rules(
        self,
        words: list[str],
        asked: list[plan.Comparison],
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.execute(monkeypatch)
        settings = ["--set", "gamma=0.5", "hidden=4"]
        where = ["--out", str(tmp_path / "out")]
        assert cli.main(["compare", *settings, *words, *where]) == 0
        assert asked[0].rules == ("adam", "lion")
        assert asked[0].environments == ("CartPole-v1", "ant")
        assert asked[0].settings == ("gamma=0.5", "hidden=4")

    def test_a_dry_run_runs_nothing(
        self,
        asked: list[plan.Comparison],
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        found = cost.Cost(8, 8000, 7200.0, 2**20, None, "a rollout")
        monkeypatch.setattr(cost, "estimate", lambda plan, folder: found)
        assert self.main(tmp_path, "compare", "adam", "--dry-run") == 0
        assert capsys.readouterr().out == (
            "8 runs, 8,000 steps, about 2:00:00 without compilation, 1 MiB of memory "
            "(from a rollout)\n"
        )
        assert len(asked) == 1 and not (tmp_path / "out").exists()

    def test_environments_are_needed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["compare", "adam"]) == 2
        assert "Pass --environments NAME or --suite NAME" in capsys.readouterr().err

    def test_a_suite_is_its_environments(
        self,
        asked: list[plan.Comparison],
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.execute(monkeypatch)
        monkeypatch.setattr(envs, "suite", {"two": ("A", "B")}.get)
        out = str(tmp_path / "out")
        assert cli.main(["compare", "adam", "--suite", "two", "--out", out]) == 0
        assert asked[0].environments == ("A", "B")
        assert asked[0].seeds == 16
        assert asked[0].total_timesteps == 1e7

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--seeds", "0"], "--seeds=0 must be at least 1"),
            (["--steps", "10"], "--steps=10 is less than one rollout"),
            (["--devices", "9"], "--devices=9, but there are 2"),
            (["--at-once", "0"], "--at-once=0 must be at least 1"),
            (["--first-seed", "-1"], "--first-seed=-1: seeds must be between 0"),
            (["--set", "hidden"], "'hidden' is not NAME=VALUE"),
            (
                ["--normalize", "adm"],
                "--normalize='adm' is unknown; did you mean",
            ),
            (["--normalize", "adam"], "--normalize=adam needs runs of 'adam'"),
            (["--normalize", "rule:x"], "--normalize=rule:x needs runs of 'x'"),
            (["--normalize", "published"], "--normalize='published' has no positive"),
            (["--baseline", "lion"], "--baseline=lion needs runs of 'lion', which is"),
        ],
    )
    def test_a_refusal_is_one_line_and_nothing_is_written(
        self,
        arguments: list[str],
        message: str,
        tmp_path: pathlib.Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert self.main(tmp_path, "compare", "adam:1e-3", *arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and message in line
        assert not (tmp_path / "out").exists()

    def test_report_options_are_passed_on(
        self,
        asked: list[plan.Comparison],
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.execute(monkeypatch)
        how = ["--normalize", "optimal", "--baseline", "adam:1e-3", "--steps", "1e4"]
        assert self.main(tmp_path, "evaluate", "adam:1e-3", *how) == 0
        passed = "'normalization': 'optimal', 'baseline': 'adam:1e-3', 'title': None"
        assert passed in capsys.readouterr().out
        # A rule whose rows are there already need not be named once more.
        assert self.main(tmp_path, "compare", "lion", *how) == 0
        assert self.main(tmp_path, "compare", "lion", *how, "--agent", "a2c") == 2
        assert "needs runs of 'adam:1e-3'" in capsys.readouterr().err

    @pytest.mark.parametrize("below", ["", "/below"])
    def test_a_file_is_no_folder(
        self,
        asked: list[plan.Comparison],
        below: str,
        tmp_path: pathlib.Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (tmp_path / "out").write_text("")
        out = f"{tmp_path / 'out'}{below}"
        where = ["--environments", "CartPole-v1", "--out", out]
        assert cli.main(["compare", "adam", *where]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: out={out}: ")
        assert asked == []

    def test_failures_are_summed_up(
        self,
        asked: list[plan.Comparison],
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        failure = compare.Failure("adam", "CartPole-v1", "ValueError: " + "no " * 200)
        self.execute(monkeypatch, failure)
        arguments = ["compare", "adam", "adam:1e-3", "--steps", "1e4"]
        assert self.main(tmp_path, *arguments) == 1
        captured = capsys.readouterr()
        assert "a table" in captured.out
        line, where = captured.err.splitlines()
        assert line.startswith("failed: adam on CartPole-v1: ValueError: no no")
        assert line.endswith(" ...") and len(line) < 350
        assert where == f"see {tmp_path / 'out' / 'failures.jsonl'}"

    def test_an_interrupt_says_how_to_go_on(
        self,
        asked: list[plan.Comparison],
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.execute(monkeypatch, error=KeyboardInterrupt())
        assert self.main(tmp_path, "compare", "adam") == 130
        assert "Repeat the command to resume" in capsys.readouterr().err

    @pytest.mark.filterwarnings("always")
    def test_quiet_hides_the_progress_and_nothing_else(
        self,
        asked: list[plan.Comparison],
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.execute(monkeypatch)
        real = compare.execute

        def execute(plan: Any, folder: pathlib.Path, **how: Any) -> Any:
            output().write("1 of 1 runs done\n")
            warnings.warn("a warning", stacklevel=1)
            return real(plan, folder, **how)

        monkeypatch.setattr(compare, "execute", execute)
        shown = []
        for quiet in ([], ["--quiet"]):
            assert self.main(tmp_path, "compare", "adam", *quiet) == 0
            shown.append(capsys.readouterr())
        assert shown[0].out == shown[1].out != ""
        assert shown[0].err == "1 of 1 runs done\nwarning: a warning\n"
        assert shown[1].err == "warning: a warning\n"

    def test_a_folder_in_use_is_one_line(
        self,
        asked: list[plan.Comparison],
        tmp_path: pathlib.Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (tmp_path / "out").mkdir()
        with locked(tmp_path / "out"):
            assert self.main(tmp_path, "compare", "adam") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "is in use by process" in line

    def test_a_card_is_of_its_rule(
        self,
        asked: list[plan.Comparison],
        bundled: pathlib.Path,
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.execute(monkeypatch)
        card = ["--card", str(bundled / "tiny")]
        assert self.main(tmp_path, "evaluate", "adam", *card) == 2
        assert "is the card of 'tiny', not of 'adam'" in capsys.readouterr().err
        assert asked == []
        monkeypatch.setitem(self.ONE_ROW, "rule", "tiny")
        assert self.main(tmp_path, "evaluate", "tiny", *card) == 0
        data = json.loads((bundled / "tiny/card.json").read_text())
        assert data["results"][-1]["mean"] == 24.0

    @pytest.mark.filterwarnings("default")
    def test_a_report_is_written_again(
        self, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["report", str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("rows.jsonl has no rows; run a comparison first")
        rows = tmp_path / "rows.jsonl"
        jsonl.append(rows, [self.ONE_ROW])
        rows.write_text(rows.read_text() + '{"rule"')
        assert cli.main(["report", str(tmp_path)]) == 0
        captured = capsys.readouterr()
        assert "minus Adam" in captured.out
        assert "24.00" in captured.out
        assert captured.err.startswith(f"warning: {rows} ends in an unfinished line")
        assert cli.main(["report", str(tmp_path), "--baseline", "adam:1e-3"]) == 0
        assert "minus adam:1e-3" in capsys.readouterr().out
        assert cli.main(["report", str(tmp_path), "--baseline", "lion"]) == 2
        assert "--baseline=lion needs runs of 'lion'" in capsys.readouterr().err

    def test_a_report_of_several_results_needs_a_folder(
        self, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
        for path, steps in ((one, 1000), (two, 2000)):
            jsonl.append(path, [{**self.ONE_ROW, "total_timesteps": steps}])
        assert cli.main(["report", str(one), str(two)]) == 2
        assert capsys.readouterr().err == (
            f"error: results={one} {two}: need a folder for the report. Pass --out "
            "FOLDER\n"
        )
        out = tmp_path / "out"
        assert cli.main(["report", str(one), str(two), "--out", str(out)]) == 0
        assert "total_timesteps=2000" in capsys.readouterr().out
        assert (out / "leaderboard.json").exists()
        assert cli.main(["report", str(one), "none.jsonl", "--out", str(out)]) == 2
        assert "none.jsonl has no rows" in capsys.readouterr().err
        assert cli.main(["report", str(one), "--out", str(two)]) == 2
        assert f"{two} is a file. Pass a folder" in capsys.readouterr().err
        assert cli.main(["report"]) == 2
        assert (
            "results=(): must name at least one folder or file"
            in capsys.readouterr().err
        )


@pytest.mark.parametrize("command", ["show", "verify", "fetch", "plot"])
def test_an_unknown_name_is_one_line(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "tini"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "error: no artifact is named 'tini'; did you mean 'tiny' or 'far/tiny'? "
        "`learned-opt-rl list` shows all\n"
    )


@pytest.mark.parametrize(
    "arguments", [[], ["lst"], ["show"], ["train"], ["list", "--jsn"]]
)
def test_wrong_usage_exits_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert "--help" in capsys.readouterr().err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"learned-opt-rl {__version__}\n"


@pytest.mark.parametrize(("word", "meant"), [("compre", "compare"), ("trian", "train")])
def test_a_misspelled_command_is_suggested(
    word: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([word, "adam"])
    message = f"error: {word!r} is not a command; did you mean {meant!r}?\n"
    assert capsys.readouterr().err.endswith(message)


def test_the_options_that_are_expanded_are_those_of_the_commands() -> None:
    *classes, train = get_args(cli._Command)
    names = [
        *cli._names()[:-1],
        *(c.__name__.lower() for c in get_args(train.__origin__)),
    ]
    flags, repeatable, needed = set(), set(), {}
    for name, kind in zip(names, [*classes, *get_args(train.__origin__)], strict=True):
        options = dict[str, tuple[Any, ...]]()
        for field, hint in get_type_hints(kind, include_extras=True).items():
            marks = getattr(hint, "__metadata__", ())
            given = [m.name for m in marks if getattr(m, "name", None)]
            options[f"--{(given or [field])[0].replace('_', '-')}"] = hint, *marks
        appended = {
            o for o, marks in options.items() if tyro.conf.UseAppendAction in marks
        }
        repeatable |= appended
        if name in _arguments._PROPOSALS:
            assert appended == {"--set"}
            continue
        flags |= {o for o, marks in options.items() if bool in marks}
        if appended - {"--set"}:
            needed[name] = sum(tyro.conf.Positional in m for m in options.values())
    assert flags == {*_arguments._FLAGS}
    assert repeatable == {*_arguments._REPEATABLE}
    assert {k: v for k, v in needed.items() if v} == _arguments._NEEDED


def test_an_interrupt_during_the_imports_leaves_no_trace() -> None:
    code = (
        "import sys, builtins\n"
        "real = builtins.__import__\n"
        "def stopped(name, *rest):\n"
        "    if name == 'tyro': raise KeyboardInterrupt\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = stopped\n"
        "from learned_opt_rl.__main__ import main\n"
        "sys.exit(main())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (130, "stopped\n")


def test_errors_of_the_system_have_path_and_advice(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "x"))

    def full() -> None:
        raise error

    monkeypatch.setattr(cli._artifacts, "scan", full)
    assert cli.main(["list"]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'x'}: No space left on device. Free space, or pass --out "
        "with a folder on another disk\n"
    )


@pytest.mark.parametrize(
    ("variables", "kept"),
    [
        (
            {"XDG_CACHE_HOME": "{tmp}/c", "LEARNED_OPT_RL_CACHE": "{tmp}/shared"},
            "{tmp}/c/learned-opt-rl/compiled/",
        ),
        ({"LEARNED_OPT_RL_COMPILATION_CACHE": "{tmp}/d"}, "{tmp}/d/"),
        ({"XDG_CACHE_HOME": "/dev/null"}, "None"),
        ({"LEARNED_OPT_RL_COMPILATION_CACHE": "off"}, "None"),
        ({"JAX_COMPILATION_CACHE_DIR": "/mine"}, "/mine"),
    ],
)
def test_compiled_programs_are_kept(
    variables: dict[str, str], kept: str, tmp_path: pathlib.Path
) -> None:
    variables = {k: v.format(tmp=tmp_path) for k, v in variables.items()}
    code = (
        "import os\nfrom learned_opt_rl.cli import main\nmain(['--version'])\n"
        "from learned_opt_rl.cli._system import keep_compiled_programs as keep\n"
        "keep()\nprint(os.environ.get('JAX_COMPILATION_CACHE_DIR'))"
    )
    plain = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=plain | variables,
        check=True,
    )
    kept = kept.format(tmp=tmp_path)
    assert result.stdout.splitlines()[-1].startswith(kept)
    assert not (tmp_path / "shared").exists()
    if kept.endswith("/compiled/"):
        assert pathlib.Path(kept).stat().st_mode & 0o777 == 0o700


def test_commands_need_no_jax() -> None:
    code = (
        "import sys\nfrom learned_opt_rl.cli import main\n"
        "heavy = {'jax', 'matplotlib', 'optax', 'pooch'}\n"
        "for line in sys.argv[1:]:\n"
        "    print('>>>', line)\n"
        "    assert main(line.split()) == 0\n"
        "    assert not heavy & set(sys.modules), line"
    )
    shows = ["show goldie2024/minatar", "show discovered/lpo_llm_minatar"]
    result = subprocess.run(
        [sys.executable, "-c", code, "list", *shows, "verify"],
        capture_output=True,
        text=True,
        check=True,
    )
    listed, remote, local, verified = result.stdout.split(">>> ")[1:]
    assert all("goldie2024/minatar" in text for text in (listed, remote, verified))
    assert local.count("discovered/lpo_llm_minatar") > 1  # the first is the command
    assert remote.count("goldie2024/minatar") > 1
    assert result.stderr == ""


def test_a_reader_that_stops_early_is_no_error() -> None:
    command = [sys.executable, "-m", "learned_opt_rl", "list"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "redirections", "status"),
    [
        ("list", "> /dev/full", 2),
        ("--help", "> /dev/full", 2),
        ("list", ">&-", 0),
        ("show zzz", "2> /dev/full", 2),
        ("show --no-such-option", ">&- 2>&-", 2),
        ("show zzz", "2>&1 | true", 2),
    ],
)
def test_lost_streams_change_no_exit_status(
    arguments: str, redirections: str, status: int
) -> None:
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    command = f"'{sys.executable}' -m learned_opt_rl {arguments}"
    # A pipeline has the status of its last command, so the first prints its own.
    script = f"{{ {command}; echo $? >&3; }} {redirections}"
    result = subprocess.run(
        ["bash", "-c", f"exec 3>&1; {script}"], capture_output=True, text=True
    )
    assert result.stdout.splitlines()[-1] == str(status)
    assert "Traceback" not in result.stderr and "Exception" not in result.stderr
    assert ("standard output cannot be written" in result.stderr) == (
        redirections == "> /dev/full"
    )


def test_a_failed_run_is_named_even_if_nobody_reads_the_report(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unread(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    failure = compare.Failure("adam", "CartPole-v1", "ValueError: no")
    config: Any = CONFIGS["ppo"](1e7)  # pyright: ignore[reportArgumentType]
    env: Any = types.SimpleNamespace(name="CartPole-v1")
    made = plan.Plan({}, [cell.Cell("adam", env, config, {})], [], 1, 1)
    monkeypatch.setattr(plan, "prepare", lambda asked: made)
    monkeypatch.setattr(compare, "execute", lambda *_, **__: [failure])
    monkeypatch.setattr(sys, "stdout", Unread())
    monkeypatch.setattr(sys, "stderr", shown := io.StringIO())
    where = ["--environments", "CartPole-v1", "--out", str(tmp_path)]
    assert cli.main(["compare", "adam", *where]) == 1
    assert shown.getvalue().startswith("failed: adam on CartPole-v1: ValueError: no")
    (tmp_path / "rows.jsonl").write_text("{}")  # Its report raises an error.
    assert cli.main(["compare", "adam", *where]) == 2


def test_a_users_settings_of_warnings_end_no_command(tmp_path: pathlib.Path) -> None:
    rows = tmp_path / "rows.jsonl"
    jsonl.append(rows, [TestCompare.ONE_ROW])
    rows.write_text(rows.read_text() + '{"rule"')
    result = subprocess.run(
        [sys.executable, "-m", "learned_opt_rl", "report", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error", "MPLBACKEND": "no_such_backend"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith(f"warning: {rows} ends in an unfinished line")


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "learned_opt_rl"]
    result = subprocess.run([*command, "list"], capture_output=True, text=True)
    assert result.returncode == 0
    assert "goldie2024/minatar" in result.stdout
    result = subprocess.run([*command, "show", "zzz"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: no artifact is named 'zzz'")
