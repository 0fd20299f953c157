"""Folders that former revisions wrote: they resume, or a message says why not."""

import dataclasses
import io
import json
import pathlib
import shutil

import pytest

from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.distillation import DistillationConfig, distill, teacher
from learned_opt_rl.training.evolution import Campaign, EvolutionConfig
from learned_opt_rl.training.evolution import campaign as campaigns
from learned_opt_rl.training.evolution.folder import read_campaign
from learned_opt_rl.training.run_folder import former_names, read_config
from tests.training.test_evolution_campaign import Cheap

PRETRAINED = pathlib.Path(__file__).parents[2] / "pretrained"


class Several(Cheap):
    """The same return in every environment."""

    def __init__(self, config, steps, **_):
        super().__init__(config, steps)
        self._number = len(config.environments)

    def returns(self, vectors, keys):
        return super().returns(vectors, keys).repeat(self._number, 1)


def stored(name, folder):
    """A copy of a stored run, with the weights that its artifact has."""
    shutil.copytree(PRETRAINED / name / "campaign", folder)
    if not (folder / "best.safetensors").exists():
        shutil.copy(
            PRETRAINED / name / "weights.safetensors", folder / "best.safetensors"
        )
    return folder


@pytest.mark.parametrize("name", ["breakout", "optim4rl/breakout", "sign_mixture"])
@pytest.mark.filterwarnings("ignore:the campaign resumes with:UserWarning")
def test_stored_campaigns_resume(tmp_path, monkeypatch, name):
    """Their states hold the names and the powers of the first revisions."""
    folder = stored(name, tmp_path / "run")
    monkeypatch.setattr(campaigns, "Evaluator", Several)
    config = read_campaign(folder)
    done = jsonl.read(folder / "log.jsonl")[-1]["generation"]
    longer = dataclasses.replace(config, generations=done + 1)
    standing = Campaign(longer, folder, stream=io.StringIO()).run()
    assert int(standing.search.generation) == done + 1
    assert read_campaign(folder) == longer


def test_former_names_are_read_and_kept_in_states(tmp_path):
    config = EvolutionConfig(
        "expression",
        {"text": "optimizer\ninputs g\nconstant c = 2\nreturn g ** c"},
        start="declared",
    )
    former = former_names(config.as_json())
    assert former["normaliser"] == "none"
    assert former["shaping"] == "centred_ranks"
    assert former["architecture"]["text"].endswith("return g ^ c")
    (tmp_path / "config.json").write_text(json.dumps({"config": former}))
    assert read_campaign(tmp_path) == config


def test_a_campaign_of_another_version_is_refused(tmp_path):
    made = {"config": EvolutionConfig("lpo", {"width": 4}).as_json()}
    made["config"]["momentum"] = 0.9
    made["versions"] = {"learned_opt_rl": "9.8.7"}
    (tmp_path / "config.json").write_text(json.dumps(made))
    message = "by learned_opt_rl 9.8.7 and cannot be resumed by .*are unknown: momentum"
    with pytest.raises(ValueError, match=message):
        read_campaign(tmp_path)


def distillation(folder):
    fields = read_config(folder)["config"]
    fields["environments"] = tuple(fields["environments"])
    fields["agent"] = {k: tuple(v) for k, v in fields["agent"].items()}
    return DistillationConfig(**fields), teacher(fields["teacher"])


@pytest.mark.parametrize("name", ["distilled/minatar_half", "distilled/lpo_same"])
def test_finished_distillations_are_not_repeated(tmp_path, name):
    """They lack the fields that came later, which count as their defaults."""
    folder = stored(name, tmp_path / "run")
    shutil.copy(folder / "best.safetensors", folder / "final.safetensors")
    before = (folder / "log.jsonl").read_bytes()
    assert "starts" not in read_config(folder)["config"]
    best = distill(*distillation(folder), folder, io.StringIO())
    assert best in jsonl.read(folder / "log.jsonl")
    assert (folder / "log.jsonl").read_bytes() == before


def test_a_distillation_of_other_weights_of_the_teacher_is_refused(tmp_path):
    folder = stored("distilled/lpo_same", tmp_path / "run")
    made = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(made | {"teacher_sha256": "0123"}))
    with pytest.raises(ValueError, match=r"another run \(teacher_sha256 0123 -> "):
        distill(*distillation(folder), folder, io.StringIO())
