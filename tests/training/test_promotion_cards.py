"""What cards say of runs of every algorithm, and the decision between two rules."""

import importlib
import json
import shlex
import shutil
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import Horizon, artifacts, expressions, rules, testing
from learned_opt_rl.artifacts import registry
from learned_opt_rl.cli import main
from learned_opt_rl.cli._train import Promote
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.evaluation.report import cards, normalization
from learned_opt_rl.evaluation.runs.plan import Comparison
from learned_opt_rl.evaluation.runs.row import append_rows
from learned_opt_rl.rules import lpg
from learned_opt_rl.rules.tuned import tuned
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.evolution import PRESETS, preset
from learned_opt_rl.training.evolution.config import parse_settings
from learned_opt_rl.training.learned import Learned, evolvable
from learned_opt_rl.training.promotion import (
    Promotion,
    agent_of_run,
    campaign,
    origin,
    promote,
    trained_in,
)
from learned_opt_rl.training.promotion.card import (
    Evaluated,
    _little,
    command,
    described,
    failures,
    how,
    training,
    weights_file,
)
from learned_opt_rl.training.promotion.verdict import judge, shown
from learned_opt_rl.training.proposal import (
    Conversation,
    ConversationConfig,
    Discovery,
    DiscoveryConfig,
    EvaluationConfig,
    Refinement,
    RefinementConfig,
    Scripted,
    journal,
)
from learned_opt_rl.training.run_folder import read_run
from tests.artifact_files import card_data, write_card
from tests.evaluation.result_rows import changed, row, table
from tests.training.promotions import SETTINGS, Fake, run_of, sha256
from tests.training.test_discovery import INITIAL, Formulas, Roles, think, write
from tests.training.test_proposal import Scores
from tests.training.test_proposal import reply as proposal_reply

FAMILIES = {
    "open": ({"carry": 3, "width": 2}, 19),
    "open_separated": ({"carry": None, "width": 3}, 19),
    "no_features": ({"carry": None, "width": 2}, 8),
    "optim4rl": ({"version": "arxiv2023", "carry": 2, "width": 3}, 2),
    "lpo": ({"width": 4, "clip_eps": 0.2, "margin": 1e-4}, 8),
}
SCORING = EvaluationConfig(("CartPole-v1",), steps=4096, seeds=2)
OPTIMIZER = """# By hand.
optimizer
inputs g, lr, t_p
memory m = momentum(0.9)
constant step = 0.25
constant power = 2
return lr * step * m * (1 - t_p)**power
"""
DRIFT = (
    "drift\ninputs r, A\nconstant eps = 0.2\nreturn relu((r - 1)**2 - eps) * abs(A)\n"
)


def promoted(tmp_path, monkeypatch, run, **changes):
    """The artifact that becomes of a run, from its folder."""
    root = tmp_path / "pretrained"
    root.mkdir()
    name = "ours/tiny"
    Fake(adam=10.0).install(monkeypatch)
    where = changes.pop("environments", None) or trained_in(run)
    comparison = Comparison(("adam",), where, 1, 256, settings=SETTINGS)
    promote(Promotion(run, name, comparison, pretrained=root, **changes))
    return root / name


def network(folder, algorithm):
    """A run of an algorithm, with weights of no consequence."""
    sizes = FAMILIES[algorithm][0]
    learned = Learned(algorithm, sizes)
    weights = learned.unravel(np.linspace(-1, 1, learned.size, dtype="f4"))
    return run_of(folder, algorithm, sizes, weights)


@pytest.mark.parametrize("algorithm", FAMILIES)
def test_networks_of_every_algorithm(tmp_path, monkeypatch, algorithm):
    run = network(tmp_path / "run", algorithm)
    folder = promoted(tmp_path, monkeypatch, run)
    with registry.bundled_in(tmp_path / "pretrained"):
        card = artifacts.card("ours/tiny")
        timed = {} if algorithm == "lpo" else {"horizon": Horizon(100)}
        rules.pretrained("ours/tiny", **timed)
    assert card.weights.sha256 == sha256(run)
    assert card.kind == ("drift" if algorithm == "lpo" else "optimizer")
    assert len(card.inputs) == FAMILIES[algorithm][1]
    assert (card.horizon is not None) == algorithm.startswith("open")
    assert (folder / "campaign/config.json").exists()
    if algorithm == "optim4rl":
        rate = tuned("adam", "CartPole-v1")["learning_rate"]
        assert card.architecture["learning_rate"] == pytest.approx(0.1 * rate)


@pytest.mark.slow
def test_a_promoted_drift_has_its_page_with_the_curve(
    tmp_path, monkeypatch, repository
):
    run = network(tmp_path / "run", "lpo")
    (run / "curve.png").write_bytes(b"a picture")
    promoted(tmp_path, monkeypatch, run)
    monkeypatch.syspath_prepend(repository / "docs")
    pages = importlib.import_module("_artifact_pages")
    with registry.bundled_in(tmp_path / "pretrained"):
        pages.write_pages(tmp_path / "pages")
    made = tmp_path / "pages/artifact/ours"
    text = (made / "tiny.md").read_text()
    assert "![Learning curve](tiny-learning-curve.png)" in text
    assert (made / "tiny-learning-curve.png").read_bytes() == b"a picture"
    assert "| Kind | drift |" in text
    assert 'drift = lpo.pretrained("ours/tiny")' in text
    assert "results/ours\\_tiny\\_256.jsonl" in text
    assert "All drifts" in (tmp_path / "pages/drifts.md").read_text()


def test_sizes_that_have_defaults_are_on_the_card(tmp_path):
    """A student `lpo:4` is told by its width."""
    weights = Learned("lpo", {"width": 4}).unravel(np.zeros(36, "f4"))
    run = run_of(tmp_path / "run", "lpo", {"width": 4}, weights)
    found = described(read_run(run))
    assert found["architecture"] == FAMILIES["lpo"][0]


def test_optim4rl_at_several_learning_rates(tmp_path):
    sizes = FAMILIES["optim4rl"][0]
    names = ["Breakout-MinAtar", "CartPole-v1"]
    weights = {"x": np.zeros(1, "f4")}
    run = run_of(tmp_path / "run", "optim4rl", sizes, weights, environments=names)
    with pytest.raises(ValueError, match="with several learning rates.*a card has one"):
        described(read_run(run))


def test_an_expression_has_the_evolved_constants(tmp_path, monkeypatch):
    constants = {"step": np.float32(0.1), "power": np.float32(-1.2345679e-05)}
    run = run_of(tmp_path / "run", "expression", {"text": OPTIMIZER}, constants)
    folder = promoted(tmp_path, monkeypatch, run)
    text = (folder / "expression.txt").read_text()
    assert text.startswith("# By hand.\noptimizer\ninputs g, lr, t_p\n")
    assert "constant step = 0.1\nconstant power = -1.2345679e-5\n" in text
    with registry.bundled_in(tmp_path / "pretrained"):
        found = artifacts.load("ours/tiny")
        rules.pretrained("ours/tiny", horizon=Horizon(100), learning_rate=0.1)
    assert {k: v.item() for k, v in found.weights.items()} == {
        k: v.item() for k, v in constants.items()
    }
    card = found.card
    assert (card.algorithm, card.kind) == ("expression", "optimizer")
    assert card.architecture["learning_rates"] == "adam"
    assert card.inputs[-2:] == ("training proportion", "momentum 0.9")
    # The state of the search has the weights as weights.
    assert (folder / "campaign/best.safetensors").exists()


def test_any_float32_is_printed_exactly(tmp_path):
    values = np.random.default_rng(0).standard_normal(80).astype("f4")
    values *= np.float32(10) ** np.arange(-30, 10).repeat(2).astype("f4")
    lines = [f"constant c{i} = 1" for i in range(2)]
    text = "\n".join(["drift", "inputs A", *lines, "return (c0 + c1) * A"])
    for pair in values.reshape(-1, 2):
        weights = {"c0": pair[0], "c1": pair[1]}
        folder = tmp_path / f"{pair[0]}"
        run = read_run(run_of(folder, "expression", {"text": text}, weights))
        name, content = weights_file(run)
        found = expressions.parse(content.decode()).init_constants()
        np.testing.assert_array_equal(np.float32([*found.values()]), pair)


def test_what_can_be_evolved_can_be_promoted():
    assert set(evolvable()) == FAMILIES.keys() | {"expression", "lpg"}


def test_a_drift_expression(tmp_path, monkeypatch):
    run = run_of(
        tmp_path / "run", "expression", {"text": DRIFT}, {"eps": np.float32(0.3)}
    )
    promoted(tmp_path, monkeypatch, run)
    with registry.bundled_in(tmp_path / "pretrained"):
        card = artifacts.card("ours/tiny")
        drift = rules.pretrained("ours/tiny")
    assert (card.kind, dict(card.architecture)) == ("drift", {"offset": 0.0})
    assert card.horizon is None
    assert drift(jnp.float32(2), jnp.float32(1)) == pytest.approx(0.7)


@pytest.fixture(scope="module")
def proposed(tmp_path_factory):
    """Folders of the three searches for an expression, of which one follows another."""
    folder = tmp_path_factory.mktemp("searches")
    replies = [proposal_reply("square", "0.5 * (ratio - 1.0) ** 2"), "no JSON"]
    config = ConversationConfig("drift", SCORING, generations=2)
    Conversation(config, folder / "propose", Scripted(replies), None, Scores()).run()
    provider = Roles([think("a")], [write("3e-4 * jnp.sign(var1 + g)")])
    settings = DiscoveryConfig(SCORING, 1, 1, ranked=("adam:1e-3",))
    where = folder / "discover"
    Discovery(settings, where, provider, None, Formulas(), INITIAL).run()
    found = origin.found(folder / "propose")
    made = RefinementConfig(
        found.text, found.evaluation, found.references, 1, 4, drops=0
    )
    refined = Refinement(made, folder / "refine", None, Formulas(), found.stages)
    refined.run()
    return folder


@pytest.mark.parametrize("kind", ["propose", "discover", "refine"])
def test_searches_for_an_expression(proposed, tmp_path, monkeypatch, kind):
    run = shutil.copytree(proposed / kind, tmp_path / kind)
    assert (trained_in(run), agent_of_run(run)) == (("CartPole-v1",), "ppo")
    folder = promoted(tmp_path, monkeypatch, run, summary="Found.")
    best = origin.found(run)
    assert (folder / "expression.txt").read_text() == best.text
    copied = {path.name for path in (folder / "campaign").iterdir()}
    assert copied == {"config.json", "events.jsonl", "ledger.jsonl"}
    events = {row["event"] for row in jsonl.read(folder / "campaign/events.jsonl")}
    assert ("reply" in events) == (kind != "refine")
    with registry.bundled_in(tmp_path / "pretrained"):
        card = artifacts.card("ours/tiny")
        with pytest.raises(ValueError, match="the result of a search for an expr"):
            campaign.located("ours/tiny")
        # The whole contract holds of other expressions; here, that this one runs.
        runs = "plain_update" if kind == "discover" else "gives_values"
        testing.check_artifact("ours/tiny", kind=card.kind, only=runs)
    assert card.kind == ("optimizer" if kind == "discover" else "drift")
    assert card.training.method == "language-model proposal"
    provider = "roles" if kind == "discover" else "scripted"
    words = card.training.description
    assert f"the replies came through the {provider} provider" in words
    evaluated = "every expression was evaluated with 2 agents trained for 4,096 steps"
    assert f"In each of CartPole-v1, {evaluated}" in words
    assert ("CMA-ES tuned" in words) == (kind == "refine")
    removed = "Removing an operation was tried 0 times and never kept"
    assert (removed in words) == (kind == "refine")
    unknown = "an unknown number of paid tokens at an unknown price"
    assert card.training.compute.count(unknown) == 1
    # Here the seeds are those of the search; by default the command takes new ones.
    new = {"propose": 2, "discover": 2, "refine": 4}[kind]
    assert f"chose the expression with seeds below {new}, and the results include" in (
        " ".join(card.known_failures)
    )
    command = Promote(folder=run, name="x")
    for first, asked in ((new, command), (7, replace(command, first_seed=7))):
        assert asked._promotion().comparison.first_seed == first
    assert "runs of 4,096 environment steps and evaluated on runs of 256" in (
        " ".join(card.known_failures)
    )


def test_the_copy_of_a_large_search_lacks_the_values_of_the_checks(
    proposed, tmp_path, monkeypatch
):
    monkeypatch.setattr(campaign, "LIMIT", 1)
    run = shutil.copytree(proposed / "propose", tmp_path / "propose")
    folder = promoted(tmp_path, monkeypatch, run)
    made, kept = (
        jsonl.read(where / "events.jsonl") for where in (run, folder / "campaign")
    )
    assert any("response" in row for row in made)
    assert kept == [{n: v for n, v in row.items() if n != "response"} for row in made]


@pytest.mark.parametrize(
    ("tokens", "price", "words"),
    [
        (1234, 0.5, "1,234 paid tokens for $0.5"),
        (1234, None, "1,234 paid tokens at an unknown price"),
        (None, 0.0, "an unknown number of paid tokens for $0"),
    ],
)
def test_costs_that_are_not_known_are_not_added(tokens, price, words):
    known = {"seconds": 3600, "steps": 5000, "tokens": 0, "price": 0.0}
    stages = [known, {**known, "tokens": tokens, "price": price}, {"kind": "file"}]
    assert journal.in_words(stages) == (
        "2 hours of training and of replies, including the wait for them, 1e+04 "
        f"environment steps, {words}"
    )


def test_searches_without_a_proposal_are_not_promoted(tmp_path, monkeypatch, capsys):
    config = ConversationConfig("drift", SCORING, generations=1)
    run = tmp_path / "run"
    Conversation(config, run, Scripted(["no JSON"]), None, Scores()).run()
    assert main(["train", "promote", str(run), "--as", "x"]) == 2
    assert "has no valid proposal with a score yet" in capsys.readouterr().err


def test_a_refined_file_was_proposed_by_nobody(tmp_path):
    (tmp_path / "mine.txt").write_text("optimizer\ninputs g\nreturn 0.1 * g")
    found = origin.found(tmp_path / "mine.txt")
    made = RefinementConfig(found.text, SCORING, generations=0, drops=1)
    Refinement(made, tmp_path / "run", None, Formulas(), found.stages).run()
    run = origin.read(tmp_path / "run")
    fields = training(run)
    assert (how(run), fields["method"]) == ("refined", "refinement of an expression")
    assert fields["description"].startswith(
        "The expression comes from the file mine.txt."
    )


def test_a_learning_rate_is_that_of_the_search(tmp_path):
    code = "def f(p, m_0_1, m_0_5, m_0_9, m_0_99, m_0_999, m_0_9999, g, lr):\n"
    code += "    return lr * jnp.sign(m_0_9)\n"
    reply = json.dumps({"thought": "t", "name": "f", "code": code})
    config = ConversationConfig("no_features", SCORING, generations=1)
    Conversation(config, tmp_path, Scripted([reply]), None, Scores()).run()
    run = origin.read(tmp_path)
    fields = described(run)
    rate = tuned("sgd", "CartPole-v1")["learning_rate"]
    assert fields["architecture"]["learning_rates"] == "sgd"
    assert fields["architecture"]["learning_rate"] == rate
    assert fields["weights"]["parameters"] == 0
    epochs = fields["horizon"]["epochs"]
    assert fields["horizon"]["total_updates"] >= epochs


def test_constants_of_another_expression(tmp_path):
    run = run_of(
        tmp_path / "run", "expression", {"text": DRIFT}, {"other": np.float32(1)}
    )
    message = r"weights \['other'\] are not the constants .* declares, \['eps'\]"
    with pytest.raises(WeightsError, match=message):
        described(read_run(run))


def test_an_algorithm_without_cards(tmp_path):
    run = run_of(tmp_path / "run", "adam", {}, {"x": np.zeros(1, "f4")})
    with pytest.raises(ValueError, match="algorithm='adam', which cannot be promoted"):
        described(read_run(run))


LPG = {
    "evolution": {
        "horizons": [[0, 1]],
        "horizon_unit": "lifetimes",
        "agent": {"workers": 8},
        "shaping": "pairs",
        "start": "random",
    },
    "distillation": {"teacher": "runs/lpg", "target_weight": 2.0, "seeds": 32},
}


@pytest.mark.parametrize("kind", LPG)
def test_update_rules_of_evolution_and_distillation(tmp_path, monkeypatch, kind):
    sizes = {"core": "gru", "width": 3, "embedding": 2, "target_width": 4}
    learned = Learned("lpg", sizes)
    weights = learned.unravel(np.linspace(-1, 1, learned.size, dtype="f4"))
    folder = tmp_path / "run"
    run_of(folder, "lpg", sizes, weights, environments=["chain/short"], **LPG[kind])
    made = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(made | {"kind": kind}))
    shutil.copy(folder / "best.safetensors", folder / "final.safetensors")
    row = {"generation": 0, "validation": 0.5, "step": 4, "round": 1, "error": 0.1}
    jsonl.append(folder / "log.jsonl", [row | {"failed": 2, "seconds": 400.0}])
    assert agent_of_run(folder) == "lpg"
    root = tmp_path / "pretrained"
    root.mkdir()
    Fake().install(monkeypatch)
    comparison = Comparison(("x/y",), trained_in(folder), 1, 1e4, agent="lpg")
    promote(Promotion(folder, "x/y", comparison, pretrained=root))
    with registry.bundled_in(root):
        card, rule = artifacts.card("x/y"), lpg.pretrained("x/y")
    assert rule.architecture == lpg.Architecture(**sizes)
    assert (card.kind, card.horizon) == ("update_rule", None)
    text = card.training.description
    if kind == "evolution":
        assert "horizon_unit=lifetimes" in text
        assert "shaping=pairs" in text
        assert "In training, 2 members had no finite return." in card.known_failures
        assert "horizon_unit=lifetimes" in card.training.command or (
            "--preset lpg-es" in card.training.command
        )
    else:
        assert text.startswith("Distilled from runs/lpg")
        assert "--student lpg:core=gru,width=3,embedding=2" in card.training.command
        assert "target_weight=2.0" in card.training.command


SEVERAL = {"steps": 20, "horizons": [9, 16]}


def test_a_distillation(tmp_path, monkeypatch):
    run = network(tmp_path / "run", "open")
    sizes = FAMILIES["open"][0]
    config = {"algorithm": "open", "architecture": sizes, "teacher": "minatar"}
    made = {"kind": "distillation", "config": config | SEVERAL, "device": "gpu"}
    (run / "config.json").write_text(json.dumps(made))
    rows = [(20, 0.25, 7200.0), (30, 0.5, 0.0)]
    made = [
        {"step": step, "round": 1, "error": error, "seconds": seconds}
        for step, error, seconds in rows
    ]
    jsonl.append(run / "log.jsonl", made)
    with pytest.raises(ValueError, match="did not finish; repeat its `train distill`"):
        read_run(run)
    shutil.copy(run / "best.safetensors", run / "final.safetensors")
    with pytest.raises(ValueError, match="not trained in an environment; give --env"):
        trained_in(run)
    promoted(tmp_path, monkeypatch, run, environments=("CartPole-v1",))
    with registry.bundled_in(tmp_path / "pretrained"):
        card = artifacts.card("ours/tiny")
    assert (card.training.method, card.training.environments) == ("distillation", ())
    assert card.training.description.startswith("Distilled from minatar. Settings:")
    assert "Selected weights: step 20, round 1, error 0.25" in card.training.description
    assert card.training.compute == "2 hours on gpu, excluding validation"
    assert card.horizon.total_updates == 39040
    assert card.training.command == (
        "learned-opt-rl train distill --teacher minatar --student open:carry=3,width=2 "
        "--out FOLDER --set steps=20 horizons=9x16"
    )


@pytest.mark.parametrize("name", PRESETS)
def test_the_command_repeats_the_campaign(name):
    """Of every preset, and of one with every kind of setting changed."""
    changes = {
        "agent": {
            "hidden": (8, 16),
            "activation": "tanh",
            "gamma": 0.5,
            "normalize_observations": True,
        },
        "horizons": ((0, 200_000), (5, 1_000_000)),
        "environments": ("Breakout-MinAtar", "Freeway-MinAtar"),
        "sigma": 0.0125,
        "generations": 3,
    }
    if "text" not in preset(name).architecture:
        changes["architecture"] = {"width": 7}
    if preset(name).normalizer != "published":
        del changes["environments"]
    if preset(name).algorithm == "lpg":
        changes["agent"] = {"workers": 8, "agent_rates": (20.0, 40.0)}
        changes |= {"horizon_unit": "steps", "compat": True}
    for config in (preset(name), preset(name, **changes)):
        words = shlex.split(command("evolution", config.as_json()))
        assert words[:4] == ["learned-opt-rl", "train", "es", "--preset"]
        settings = words[8:]  # after NAME --out FOLDER --set
        again = preset(words[4], **parse_settings(settings, config.algorithm))
        assert again.as_json() == config.as_json()
    assert len(shlex.split(command("evolution", preset(name).as_json()))) == 7


def test_the_command_of_a_custom_expression():
    base = preset("sign-mixture-minatar")
    fields = base.as_json() | {"architecture": {"text": DRIFT}}
    words = shlex.split(command("evolution", fields))
    settings = parse_settings(words[words.index("--set") + 1 :], "expression")
    assert preset("sign-mixture-minatar", **settings).as_json() == fields


def test_the_best_of_a_curriculum_is_of_its_last_horizon(tmp_path):
    run = run_of(
        tmp_path / "run",
        "open",
        {},
        {"x": np.zeros(1, "f4")},
        horizons=[[0, 100], [2, 1000]],
        start="zeros",
    )
    log = [
        {"generation": 0, "validation": 5.0},
        {"generation": 1, "horizon": 100, "validation": 7.0},
        {"generation": 2, "horizon": 100, "validation": 6.0},
        {"generation": 3, "horizon": 1000, "validation": None},
        {"generation": 4, "horizon": 1000, "validation": 2.0},
        {"generation": 5, "horizon": 1000, "validation": 1.0},
        {"generation": 6, "horizon": 1000},
    ]
    jsonl.append(run / "log.jsonl", log[:1])
    assert "at the start of the campaign" in next(iter(_little(read_run(run))))
    jsonl.append(run / "log.jsonl", log[1:4])
    found = read_run(run)
    assert "at the start of the campaign" not in next(iter(_little(found)))
    assert (found.best["generation"], found.horizon) == (1, 100)
    jsonl.append(run / "log.jsonl", log[4:])
    found = read_run(run)
    assert (found.best["generation"], found.horizon) == (4, 1000)
    text = training(found)["description"]
    assert text.startswith("Evolved from zeros. Settings: ")
    assert "horizons=0:100,2:1000" in text
    assert "Selected weights: generation 4, horizon 1000, validation 2" in text


def test_the_decision_is_that_of_paired_normalized_returns():
    games = ("Breakout-MinAtar", "Freeway-MinAtar")
    rng = np.random.default_rng(0)
    new, old = rng.uniform(1, 60, (2, 5, 2))
    rows = [
        table({rule: dict(zip(games, values.T.tolist(), strict=True))})
        for rule, values in (("n", new), ("n", old))
    ]
    known = [normalization.published("adam")[name] for name in games]
    paired = (new / known).mean(1) - (old / known).mean(1)
    verdict = judge(*rows, [], "adam")
    assert verdict.difference.value == pytest.approx(paired.mean())
    assert verdict.difference.low < paired.mean() < verdict.difference.high
    assert verdict.difference.seeds == 5
    assert verdict.new == pytest.approx((new / known).mean())
    assert shown(verdict.difference) in verdict.text
    assert (
        "Breakout-MinAtar, Freeway-MinAtar after 1,000 steps, divided" in verdict.text
    )


def test_where_nothing_is_published_the_baseline_is_the_unit():
    """Its size: returns that are never positive count like any other."""
    games = ("ant", "Acrobot-v1", "Catch-bsuite")
    values = {"new": (6, -500, 1), "old": (3, -80, 0.5), "sgd": (2, -100, 0)}
    new, old, others = (
        [row(rule, game, 0, float(v)) for game, v in zip(games, of, strict=True)]
        for rule, of in values.items()
    )
    verdict = judge(new, old, others, "sgd")
    assert verdict.new == pytest.approx((3 - 5 + 1) / 3)
    assert verdict.current == pytest.approx((1.5 - 0.8 + 0.5) / 3)
    assert verdict.difference.value < 0
    assert "over Acrobot-v1, Catch-bsuite, ant after" in verdict.text


def test_rows_of_other_weights_are_not_results_of_a_card(tmp_path):
    write_card(tmp_path / "tiny", card_data("tiny"))
    rows = [
        row("tiny", final=9.0, weights_sha256="1" * 64),
        row("tiny", final=3.0, weights_sha256="0" * 64),
        row("tiny", seed=1, final=5.0),  # from before rows told it
    ]
    append_rows(tmp_path / "rows.jsonl", rows)
    found = cards.fill_results(tmp_path / "tiny", tmp_path / "rows.jsonl", "a/b.jsonl")
    (measured,) = [r for r in found if r["source"] == "a/b.jsonl"]
    assert (measured["mean"], measured["seeds"]) == (4.0, 2)


def test_agents_with_other_settings_than_in_training_are_reported(tmp_path):
    run = network(tmp_path / "run", "open")
    path = run / "config.json"
    made = json.loads(path.read_text())
    made["config"]["agent"] = {"hidden": [8, 8], "epochs": 1}
    path.write_text(json.dumps(made))
    config = {"hidden": [64, 64], "epochs": 1}
    here = row("tiny", "CartPole-v1", 0, 1.0, config=config)
    told = failures(read_run(run), Evaluated([here], [], "adam"))
    assert (
        "The training agents differ from the evaluation agents: hidden [8, 8]." in told
    )
    here = changed(here, config={"hidden": (8, 8), "epochs": 1})
    told = failures(read_run(run), Evaluated([here], [], "adam"))
    assert not [text for text in told if "training agents" in text]
