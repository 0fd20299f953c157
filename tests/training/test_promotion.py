"""Promotion around an evaluation that costs nothing; one that trains is at the end."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import shutil

import jax
import numpy as np
import pytest

from learned_opt_rl import Horizon, artifacts, cli, rules
from learned_opt_rl.artifacts import registry
from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.errors import ArtifactError, CardError, WeightsError
from learned_opt_rl.evaluation.report import cards
from learned_opt_rl.evaluation.runs import compare
from learned_opt_rl.evaluation.runs.plan import Comparison
from learned_opt_rl.rundir import atomic, jsonl
from learned_opt_rl.rundir.lock import FolderInUseError, locked
from learned_opt_rl.training.evolution import campaign as campaigns
from learned_opt_rl.training.evolution.folder import read_campaign
from learned_opt_rl.training.promotion import Promotion, WorseError, promote
from learned_opt_rl.training.promotion import campaign as kept
from learned_opt_rl.training.promotion.campaign import located
from learned_opt_rl.training.run_folder import BEST
from tests.artifact_files import card_data, install_plugin, remote_card_data, write_card
from tests.training.promotions import (
    CONFIG,
    SETTINGS,
    Fake,
    campaign,
    leaves_equal,
    sha256,
)
from tests.training.test_evolution_campaign import Cheap

ENV = "CartPole-v1"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "pretrained"
    folder.mkdir()
    return folder


@pytest.fixture
def fake(monkeypatch):
    made = Fake(adam=10.0)
    made.install(monkeypatch)
    return made


def asked(run, root, name="tiny", seeds=5, total_timesteps=256, **changes):
    comparison = Comparison(
        ("adam",), (ENV,), seeds, total_timesteps, settings=SETTINGS
    )
    return Promotion(run, name, comparison, pretrained=root, **changes)


def command(run, root, *more):
    words = [str(run), "--as", "tiny", "--pretrained", str(root), "--steps", "256"]
    return cli.main(["train", "promote", *words, "--set", *SETTINGS, *more])


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def loaded(root, name="tiny"):
    with registry.bundled_in(root):
        return artifacts.load(name)


@pytest.fixture
def old(tmp_path, root, fake):
    """What has the name: weights of 1 that return 20 on average of 5 seeds."""
    run = campaign(tmp_path / "old", 1.0)
    fake.returns[sha256(run)] = 18.0
    promote(asked(run, root))
    return run


def test_a_first_promotion_makes_a_whole_artifact(tmp_path, root, fake):
    run = campaign(tmp_path / "run", 1.0)
    fake.returns[sha256(run)] = 9.0
    (run / "curve.png").write_bytes(b"a picture")
    outcome = promote(asked(run, root, failures=("Ugly.",), summary="For tests."))
    assert (outcome.folder, outcome.verdict) == (root / "tiny", None)
    found = loaded(root)
    assert leaves_equal(found.weights, 1.0)
    card = found.card
    assert (card.algorithm, card.kind, card.summary) == (
        "open",
        "optimizer",
        "For tests.",
    )
    assert dict(card.architecture) == {"carry": None, "width": 2}
    assert len(card.inputs) == 19
    assert (card.horizon.total_updates, card.horizon.minibatches) == (8, 2)
    assert card.training.environments == (ENV,)
    assert card.training.command.startswith(
        "learned-opt-rl train es --preset open-breakout --out FOLDER --set "
    )
    description = card.training.description
    assert description.startswith("Evolved from random. Settings: ")
    assert "population=4" in description
    assert "Selected weights: generation 2, " in description
    assert ", validation 2" in description
    assert card.training.compute.startswith("180 s on ")
    (result,) = card.results
    assert "--steps 256 --set epochs=1 hidden=4" in result.command
    assert (result.mean, result.seeds, result.steps) == (11.0, 5, 256)
    assert result.interval is not None
    assert result.source == "results/tiny_256.jsonl"
    below = (
        f"It scores below tuned Adam on {ENV} after 256 steps: 11 compared with 12, "
    )
    assert card.known_failures[0].startswith(f"{below}a difference of -1 [")
    assert "had 2 generations of 4 members, far" in card.known_failures[1]
    assert card.known_failures[2:] == ("Ugly.",)
    rows = jsonl.read(tmp_path / result.source)
    assert [row["rule"] for row in rows] == ["adam"] * 5 + ["tiny"] * 5
    assert sorted(content(root)) == [
        "tiny/campaign/config.json",
        "tiny/campaign/log.jsonl",
        "tiny/campaign/state-0.npz",
        "tiny/card.json",
        "tiny/learning-curve.png",
        "tiny/weights.safetensors",
    ]


def test_a_worse_one_is_refused_with_the_numbers(tmp_path, root, fake, old, capsys):
    run = campaign(tmp_path / "new", 2.0)
    fake.returns[sha256(run)] = 17.0
    before = content(root), content(tmp_path / "results")
    assert command(run, root) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {run} is worse than the current 'tiny', which")
    # 19 and 20, over tuned Adam's 12
    assert (
        "return 1.583 compared with 1.667, a difference of -0.0833 [-0.0833, -0.0833]"
        in error
    )
    assert "5 paired seeds" in error
    assert (content(root), content(tmp_path / "results")) == before
    assert command(run, root) == 2
    assert fake.made.count("adam") == 5  # once, for all three


def test_a_worse_one_by_force_says_so_on_its_card(tmp_path, root, fake, old, capsys):
    run = campaign(tmp_path / "new", 2.0)
    fake.returns[sha256(run)] = 17.0
    assert command(run, root, "--force") == 0
    assert "difference of -0.0833" in capsys.readouterr().out
    card = loaded(root).card
    assert card.known_failures[0].startswith("It was promoted although")
    assert "1.583 compared with 1.667" in card.known_failures[0]


def test_a_better_one_takes_the_name_and_the_rows(tmp_path, root, fake, old):
    run = campaign(tmp_path / "new", 2.0)
    fake.returns[sha256(run)] = 21.0
    verdict = promote(asked(run, root)).verdict
    assert verdict.difference.value == pytest.approx(3 / 12)
    found = loaded(root)
    assert leaves_equal(found.weights, 2.0)
    assert [result.mean for result in found.card.results] == [23.0]
    rows = jsonl.read(tmp_path / "results/tiny_256.jsonl")
    former = f"tiny:{sha256(old)[:8]}"
    assert {row["rule"] for row in rows} == {"adam", "tiny", former}
    assert [row["final_return"] for row in rows if row["rule"] == former] == [
        *(18.0, 19.0, 20.0, 21.0, 22.0)
    ]
    assert {path.name for path in root.glob(".*")} <= {".lock"}
    # Once more with more seeds: these weights have no rival any more.
    fake.made.clear()
    assert promote(asked(run, root, seeds=6)).verdict is None
    assert fake.made == ["adam", "tiny"]
    assert [result.seeds for result in loaded(root).card.results] == [6]
    # And over longer runs: what the card has from another file stays.
    promote(asked(run, root, total_timesteps=512, failures=("Slow.",)))
    assert [result.steps for result in loaded(root).card.results] == [256, 512]


def test_texts_about_the_same_weights_are_kept(tmp_path, root, fake):
    run = campaign(tmp_path / "run")
    fake.returns[sha256(run)] = 5.0
    promote(asked(run, root, title="Tiny", failures=("Ugly.",)))
    promote(asked(run, root, seeds=6, summary="Small.", failures=("Slow.",)))
    promote(asked(run, root, total_timesteps=512))
    card = loaded(root).card
    assert (card.title, card.summary) == ("Tiny", "Small.")
    below = [text for text in card.known_failures if text.startswith("It scores")]
    assert ["after 512 steps" in text for text in below] == [True, False]
    assert "6 paired seeds" in below[1]
    assert {"Ugly.", "Slow."} <= {*card.known_failures}
    assert len({*card.known_failures}) == len(card.known_failures)


def test_one_artifact_is_replaced_at_a_time(tmp_path, root, fake):
    run = campaign(tmp_path / "run")
    with locked(root), pytest.raises(FolderInUseError, match="pretrained is in use"):
        promote(asked(run, root))
    assert not content(root)
    promote(asked(run, root))
    assert fake.made.count("tiny") == 5  # once for each seed, and decided again


def test_the_current_version_is_read_again(tmp_path, root, fake, old):
    """Not who had it when it was first asked for in this process."""
    for fill, base in ((2.0, 30.0), (3.0, 25.0)):
        run = campaign(tmp_path / f"new{fill}", fill)
        fake.returns[sha256(run)] = base
        if base == 30:
            promote(asked(run, root))
    with pytest.raises(WorseError, match=r"return 2.25 compared with 2.667"):
        promote(asked(run, root))


def test_a_version_promoted_meanwhile_is_not_replaced(
    tmp_path, root, fake, old, monkeypatch
):
    runs = [campaign(tmp_path / f"new{fill}", fill) for fill in (2.0, 3.0)]
    for run, base in zip(runs, (30.0, 25.0), strict=True):
        fake.returns[sha256(run)] = base
    evaluate, first = compare.execute, []

    def meanwhile(*args, **kwargs):
        if not first:
            first.append(promote)
            promote(asked(runs[0], root))
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(compare, "execute", meanwhile)
    with pytest.raises(ValueError, match=r"'tiny' changed in the meantime"):
        promote(asked(runs[1], root))
    assert leaves_equal(loaded(root).weights, 2.0)
    with pytest.raises(WorseError, match=r"return 2.25 compared with 2.667"):
        promote(asked(runs[1], root))


def test_equal_returns_are_no_reason_to_refuse(tmp_path, root, fake, old):
    run = campaign(tmp_path / "new", 2.0)
    fake.returns[sha256(run)] = 18.0
    assert promote(asked(run, root)).verdict.difference.value == 0


def test_runs_without_a_return_are_refused_even_by_force(tmp_path, root, fake):
    run = campaign(tmp_path / "run")
    fake.returns[sha256(run)] = None
    with pytest.raises(WorseError, match=f"5 of 5 runs .* no return .in {ENV}.: they"):
        promote(asked(run, root, force=True))
    assert not content(root)


@pytest.mark.parametrize("moment", ["fill_results", "keep", "replace_folder"])
def test_a_promotion_killed_after_the_evaluation_resumes(
    tmp_path, root, fake, old, monkeypatch, moment
):
    run, before = campaign(tmp_path / "new", 2.0), content(root)
    fake.returns[sha256(run)] = 21.0
    where = {"fill_results": cards, "keep": kept, "replace_folder": atomic}[moment]
    with monkeypatch.context() as patch:
        patch.setattr(where, moment, _killed)
        with pytest.raises(KeyboardInterrupt):
            promote(asked(run, root))
    assert content(root) == before
    assert leaves_equal(loaded(root).weights, 1.0)
    fake.made.clear()
    promote(asked(run, root))
    # What the results gave to the former holder's sha256 is still in the run's folder.
    assert fake.made == []
    assert leaves_equal(loaded(root).weights, 2.0)
    rules = [row["rule"] for row in jsonl.read(tmp_path / "results/tiny_256.jsonl")]
    assert (
        sorted(rules) == ["adam"] * 5 + ["tiny"] * 5 + [f"tiny:{sha256(old)[:8]}"] * 5
    )


def _killed(*_, **__):
    raise KeyboardInterrupt


def test_a_full_disk_leaves_the_artifact(
    tmp_path, root, fake, old, monkeypatch, capsys
):
    def full(source, target, **_):
        target.mkdir()
        (target / "card.json").write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device")

    run, before = campaign(tmp_path / "new", 2.0), content(root)
    fake.returns[sha256(run)] = 21.0
    with monkeypatch.context() as patch:
        patch.setattr(atomic.shutil, "copytree", full)
        assert command(run, root) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device; 'tiny' is unchanged" in error
    assert content(root) == before
    assert {path.name for path in root.glob(".*")} <= {".lock"}
    assert command(run, root) == 0


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_killed_between_renames_the_old_or_the_new_is_there(
    tmp_path, monkeypatch, renames
):
    for name in ("made", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    rename, done = os.replace, []

    def kill(*paths):
        if len(done) == renames:
            raise SystemError  # nothing of this process runs any more
        done.append(rename(*paths))

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", kill)
        patch.setattr(atomic.shutil, "rmtree", lambda *_, **__: None)
        if renames < 2:
            with pytest.raises(SystemError):
                atomic.replace_folder(tmp_path / "made", tmp_path / "target")
        else:
            atomic.replace_folder(tmp_path / "made", tmp_path / "target")
    atomic.recover_folder(tmp_path / "target")
    expected = "made" if renames == 2 else "target"
    assert content(tmp_path / "target") == {"file": expected.encode()}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "target"]


def test_folders_left_by_a_kill_are_not_artifacts(root, fake, old):
    shutil.copytree(root / "tiny", root / ".tiny.new")
    with registry.bundled_in(root):
        found = registry.scan()
    assert [*found.entries] == ["tiny"]
    assert not found.broken


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Tiny", "name is 'Tiny'; use 'name' or"),
        ("../tiny", "name is '../tiny'"),
        ("tiny/below", "would hold or lie in another artifact's folder"),
        ("far", "would hold or lie in another artifact's folder"),
        ("far/tiny", "belongs to an artifact of another project, which"),
        ("zoo/sign", "belongs to an artifact of plugin zoo, which"),
    ],
)
def test_invalid_names_are_refused(
    tmp_path, root, fake, old, monkeypatch, name, message
):
    write_card(root / "far/tiny", remote_card_data(b"weights"))
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)
    zoo = install_plugin(site, "zoo", "[learned_opt_rl.artifacts]\nzoo = zoo")
    write_card(zoo, card_data("zoo/sign"))
    before, runs = content(root), len(fake.made)
    with pytest.raises(ArtifactError, match=message):
        promote(asked(campaign(tmp_path / "new"), root, name))
    assert content(root) == before
    assert len(fake.made) == runs


def test_damaged_weights(tmp_path, root, fake):
    run = campaign(tmp_path / "run")
    (run / BEST).write_bytes((run / BEST).read_bytes()[:-5])
    with pytest.raises(WeightsError, match=r"best.safetensors: is not a safetensors"):
        promote(asked(run, root))
    (run / BEST).unlink()
    with pytest.raises(WeightsError, match="a run writes it with its first validation"):
        promote(asked(run, root))


def test_weights_of_other_sizes_than_the_config(tmp_path, root, fake):
    run = campaign(tmp_path / "run")
    made = json.loads((run / "config.json").read_text())
    made["config"]["architecture"]["width"] = 3
    (run / "config.json").write_text(json.dumps(made))
    with pytest.raises(WeightsError, match="has shape .* architecture asks for"):
        promote(asked(run, root))
    assert not content(root)
    assert fake.made == []


def test_folders_without_a_run_are_refused(tmp_path, root, fake, capsys):
    assert command(tmp_path / "none", root) == 2
    assert (
        "holds no run (config.json cannot be read: No such" in capsys.readouterr().err
    )
    for text, message in (
        ("[]", "is not the configuration of a run"),
        (
            '{"kind": "evolution", "config": {"algorithm": "open"}}',
            "lacks architecture; give",
        ),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            promote(asked(tmp_path, root))
    run = campaign(tmp_path / "run")
    with pytest.raises(ValueError, match="--pretrained .* is not a folder"):
        promote(asked(run, tmp_path / "nowhere"))
    with pytest.raises(CardError, match=r"known_failures\[0\] is ' '"):
        promote(asked(run, root, failures=(" ",)))


def test_rows_without_a_digest_are_refused(tmp_path, root, fake, old):
    path = tmp_path / "results/tiny_256.jsonl"
    rows = jsonl.read(path)
    for row in rows:
        del row["weights_sha256"]
    path.unlink()
    jsonl.append(path, rows)
    with pytest.raises(ValueError, match="without the digest of their"):
        promote(asked(old, root))


def test_failed_runs_promote_nothing(tmp_path, root, fake, monkeypatch, capsys):
    run = campaign(tmp_path / "run")
    failure = compare.Failure("tiny", ENV, "ValueError: broken")
    monkeypatch.setattr(compare, "execute", lambda *_, **__: [failure])
    assert command(run, root) == 1
    assert f"failed: tiny on {ENV}: ValueError: broken" in capsys.readouterr().err
    assert not content(root)


def test_an_installed_package_is_not_promoted_into(tmp_path, root, monkeypatch):
    monkeypatch.setattr(registry, "bundled_root", lambda: root)
    with pytest.raises(ValueError, match="belongs to an installed package"):
        promote(asked(campaign(tmp_path / "run"), None))


# Going on with what was promoted.


def test_a_promoted_campaign_resumes_by_name(
    tmp_path, root, fake, old, monkeypatch, capsys
):
    before = content(root)
    monkeypatch.setattr(campaigns, "Evaluator", Cheap)
    monkeypatch.setattr(registry, "bundled_root", lambda: root)
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "tiny-campaign"
    longer = ["train", "resume", "tiny", "--generations", "4"]
    assert cli.main([*longer, "--dry-run"]) == 0
    assert "2 generations: " in capsys.readouterr().out
    assert not made.exists()
    assert cli.main(longer) == 0
    assert "4 generations done" in capsys.readouterr().out
    assert [row["generation"] for row in jsonl.read(made / "log.jsonl")] == [*range(5)]
    assert read_campaign(made).generations == 4
    assert content(root) == before
    # Given once more, the copy goes on.
    assert cli.main(["train", "resume", "tiny", "--generations", "5"]) == 0
    assert len(jsonl.read(made / "log.jsonl")) == 6
    assert cli.main(["train", "resume", str(made), "--out", "elsewhere"]) == 2
    assert "which resumes in place; leave --out out" in capsys.readouterr().err


def test_best_weights_come_back_with_the_campaign(tmp_path, root, old, monkeypatch):
    with registry.bundled_in(root):
        made = located("tiny", tmp_path / "again")
    assert (made / BEST).read_bytes() == (old / BEST).read_bytes()


def test_a_campaign_resumes_without_its_start(tmp_path, monkeypatch):
    start = tmp_path / "start.safetensors"
    save_safetensors(start, CONFIG.learned.unravel(np.zeros(CONFIG.learned.size, "f4")))
    config = dataclasses.replace(CONFIG, start=str(start), generations=3)
    run = campaign(tmp_path / "run", config=config)
    told = json.loads((run / "config.json").read_text())["start_sha256"]
    assert told == hashlib.sha256(start.read_bytes()).hexdigest()
    start.unlink()
    monkeypatch.setattr(campaigns, "Evaluator", Cheap)
    campaigns.Campaign(config, run, stream=io.StringIO()).run()
    assert json.loads((run / "config.json").read_text())["start_sha256"] == told


def test_campaigns_that_cannot_resume(tmp_path, root, old, monkeypatch, capsys):
    monkeypatch.setattr(registry, "bundled_root", lambda: root)
    monkeypatch.chdir(tmp_path)
    write_card(root / "bare", card_data("bare"))
    write_card(root / "student", card_data("student"))
    (root / "student/campaign").mkdir()
    made = {"kind": "distillation", "config": {}}
    (root / "student/campaign/config.json").write_text(json.dumps(made))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("mine")
    for words, message in (
        (
            ["bare"],
            "'bare' has no campaign to resume; those that have one: s",
        ),
        (["student"], "'student' was distilled, which cannot be resumed"),
        (["tin"], "tin holds no campaign (config.json is missing), and no artifact is"),
        (["tiny", "--out", "taken"], "--out taken holds something other"),
    ):
        assert cli.main(["train", "resume", *words]) == 2
        assert message in capsys.readouterr().err


def test_a_running_campaign_is_kept_with_its_later_best(
    tmp_path, root, fake, monkeypatch
):
    run = campaign(tmp_path / "run", 1.0)
    fake.returns[sha256(run)] = 9.0
    other = (campaign(tmp_path / "other", 5.0) / BEST).read_bytes()
    evaluate = compare.execute

    def meanwhile(*args, **kwargs):
        (run / BEST).write_bytes(other)
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(compare, "execute", meanwhile)
    promote(asked(run, root))
    assert leaves_equal(loaded(root).weights, 1.0)
    assert (root / "tiny/campaign" / BEST).read_bytes() == other


def test_a_damaged_newest_state_is_not_kept(tmp_path, root, fake):
    run = campaign(tmp_path / "run")
    fake.returns[sha256(run)] = 9.0
    (run / "state-0.npz").write_bytes(b"damaged")
    promote(asked(run, root))
    kept = root / "tiny/campaign"
    assert [path.name for path in kept.glob("state-*")] == ["state-1.npz"]


def test_a_large_log_is_kept_without_single_members(tmp_path, root, fake, monkeypatch):
    run = campaign(tmp_path / "run")
    fake.returns[sha256(run)] = 9.0
    monkeypatch.setattr(kept, "LIMIT", 1000)
    promote(asked(run, root))
    rows = jsonl.read(root / "tiny/campaign/log.jsonl")
    assert [row["generation"] for row in rows] == [0, 1, 2]
    assert not any("fitness" in row for row in rows)


# For real.


@pytest.mark.slow
def test_trained_for_real_it_can_be_used(tmp_path, root, quick_compilation):
    """Adam and new weights on two seeds, from the command line."""
    run = campaign(tmp_path / "run", 0.01)
    assert command(run, root, "--seeds", "2") == 0
    with registry.bundled_in(root):
        tx = rules.pretrained("tiny", horizon=Horizon(100))
    params = {"w": jax.numpy.ones(3)}
    updates, _ = tx.update(params, tx.init(params), params)
    assert jax.numpy.isfinite(updates["w"]).all()
    (result,) = loaded(root).card.results
    assert (result.seeds, result.interval) == (2, None)
