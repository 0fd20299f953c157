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
from learned_opt_rl.training.run_folder import read_config
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
    """Another version resumes them, from the states beside their cards."""
    folder = stored(name, tmp_path / "run")
    monkeypatch.setattr(campaigns, "Evaluator", Several)
    config = read_campaign(folder)
    done = jsonl.read(folder / "log.jsonl")[-1]["generation"]
    longer = dataclasses.replace(config, generations=done + 1)
    standing = Campaign(longer, folder, stream=io.StringIO()).run()
    assert int(standing.search.generation) == done + 1
    assert read_campaign(folder) == longer


def test_a_campaign_of_another_version_is_refused(tmp_path):
    made = {"kind": "evolution"}
    made["config"] = EvolutionConfig("lpo", {"width": 4}).as_json()
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


def test_a_distillation_of_other_weights_of_the_teacher_is_refused(tmp_path):
    folder = stored("distilled/lpo_same", tmp_path / "run")
    config, imitated = distillation(folder)
    made = json.loads((folder / "config.json").read_text())
    made |= {"config": config.as_json(), "teacher_sha256": "0123"}
    (folder / "config.json").write_text(json.dumps(made))
    with pytest.raises(ValueError, match=r"another run \(teacher_sha256 0123 -> "):
        distill(config, imitated, folder, io.StringIO())
