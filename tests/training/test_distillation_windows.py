"""Windows of whole runs: the memory in them, the report, and resumption."""

import hashlib
import io
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import Horizon, cli, open_rl
from learned_opt_rl.artifacts.weights import load_safetensors, save_safetensors
from learned_opt_rl.rules import no_features, parts
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.distillation import configure, distill, windows
from learned_opt_rl.training.distillation import windows as fitting
from learned_opt_rl.training.distillation.teachers import network_features, unroll
from learned_opt_rl.training.distillation.visited import record

pytestmark = pytest.mark.usefixtures("quick_compilation")

T, L, N, K = 31, 2, 3, 3  # updates, leaves, entries, updates per window
SIZES = np.array([2, 6])  # entries of the leaves
RULES = {
    "open": (open_rl, 4, 19),
    "open, feed-forward": (open_rl, None, 19),
    "no_features": (no_features, 4, 14),
}


def recording(features, seed=0):
    x = np.random.default_rng(seed).normal(size=(T, L, features, N))
    return {
        "features": x.astype(np.float16),
        "explored": np.array([True, False]),
        "leaves": np.array(["actor/bias", "critic/bias"]),
        "sizes": SIZES,
    }


@pytest.fixture(params=RULES)
def planted(request, getkey):
    """The weights of a network, and the windows of two runs that it labels."""
    rule, carry, features = RULES[request.param]
    weights = rule.init(getkey(), rule.Architecture(carry, 8))
    runs = [recording(features, seed) for seed in range(2)]
    return weights, [windows.cut(weights, K, **run) for run in runs]


def whole(weights, run):
    """All windows of a run, from the carries of the weights."""
    carries = np.asarray(unroll(weights, run.features)[1])
    rest = (np.tile(x, (len(carries), 1)) for x in (run.explored, run.sizes))
    return fitting.Batch(run.features, carries, run.target, *rest)


def test_a_student_equal_to_the_teacher_has_no_error(planted):
    weights, runs = planted
    found = fitting.measure(weights, runs)
    assert [found[kind] for kind in ("error", "log_scale")] == [0, 0]
    assert found["raw_error"] > 0  # the mean, which the teacher's has not
    np.testing.assert_allclose(found["cosine"], 1, rtol=1e-6)
    assert [row["decile"] for row in found["deciles"]] == list(range(1, 11))
    assert [row["leaf"] for row in found["leaves"]] == ["actor/bias", "critic/bias"]
    assert all(row["error"] == 0 for row in found["deciles"] + found["leaves"])
    drift = 0.25 * fitting.measure(weights, runs[:1])["raw_error"] ** 2
    loss = float(fitting.loss(weights, whole(weights, runs[0]), 1e-6))
    np.testing.assert_allclose(loss, drift, rtol=1e-3)  # so no error from the carries


def test_the_loss_leaves_out_most_of_an_error_that_the_rule_removes(planted):
    """A shift of all updates alike, which the mean takes away."""
    weights, runs = planted
    batch = whole(weights, runs[0])
    shift = np.where(np.arange(batch.target.shape[3]) == 0, 1.0, 0.0)[:, None]
    found = fitting.loss(weights, batch._replace(target=batch.target + shift), 1e-6)
    one = np.ones((L, 1, 1, 1))
    one[0] = 0
    other = fitting.loss(
        weights, batch._replace(target=batch.target + one * shift), 1e-6
    )
    assert 0 < float(found) < float(other) / 2


def test_windows_start_with_the_carries_of_single_steps(planted):
    weights, runs = planted
    found = unroll(weights, runs[1].features)[1]
    if "gru" not in weights:
        assert not found.size
        return
    features = recording(runs[1].features.shape[3], seed=1)["features"]
    carry, expected = jnp.zeros((4, L * N)), []
    for step, rows in enumerate(features[: T // K * K].astype(np.float32)):
        if step % K == 0:
            expected.append(np.asarray(carry).reshape(4, L, N).swapaxes(0, 1))
        table = jnp.asarray(rows).swapaxes(0, 1).reshape(-1, L * N)
        carry = parts.apply(weights, jnp.concatenate([table, carry]))[1]
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-4, atol=1e-6)


def test_the_report_of_a_student_that_moves_twice_as_far(planted):
    weights, runs = planted
    last = weights["mlp"]["dense_2"]
    factor = jnp.array([2.0, 1.0, 2.0])[: last["bias"].size]
    double = {"kernel": last["kernel"] * factor[None], "bias": last["bias"] * factor}
    student = weights | {"mlp": weights["mlp"] | {"dense_2": double}}
    found = fitting.measure(student, runs)
    for row in [found, *found["deciles"], *found["leaves"]]:
        values = [row[name] for name in ("error", "cosine", "log_scale")]
        np.testing.assert_allclose(values, [1, 1, np.log(2)], rtol=1e-4)
        ratio = row["student_step"] / row["teacher_step"]
        np.testing.assert_allclose(ratio, 2, rtol=1e-4)
    target = np.concatenate([run.target for run in runs]).astype(float)
    update = 1e-3 * target[..., 0, :] * np.exp(1e-3 * target[..., 1, :])
    mean = (update.mean(-1) * SIZES[:, None] / SIZES.sum()).sum(1)
    critic = update[:, 1] - mean[..., None]  # not explored
    step = found["leaves"][1]["teacher_step"]
    np.testing.assert_allclose(step, np.sqrt((critic**2).mean()), rtol=1e-4)


def test_recorded_features_give_the_updates_of_the_agents_own_optimizer(getkey):
    weights = open_rl.init(getkey(), open_rl.Architecture(4, 8))
    horizon = Horizon(6, 1, 2)
    tx = open_rl.optimizer(weights, horizon)
    look = network_features("open", 4)
    tx = record(tx, horizon, look, steps=6, size=8, seed=0)
    params = {"critic": {"Dense_0": jax.random.normal(getkey(), (5, 2))}}
    gradients = jax.random.normal(getkey(), (6, 5, 2))

    def step(state, gradient):
        grads = {"critic": {"Dense_0": gradient}}
        dormancy = {"critic": {"Dense_0": jnp.array([0.5, 1.5])}}
        moved, state = tx.update(grads, state, params, dormancy=dormancy)
        return state, moved["critic"]["Dense_0"].reshape(-1)

    state, moved = jax.jit(lambda s: jax.lax.scan(step, s, gradients))(tx.init(params))
    kept = state.kept[:-1]  # [6, 1, 19, 8]
    outputs = unroll(weights, kept.swapaxes(0, 1)[None])[0][0, 0]
    found = -parts.deterministic_update(outputs.swapaxes(0, 1))
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0)
    which = jax.random.randint(key, (8,), 0, 10)
    np.testing.assert_allclose(found, moved[:, which], rtol=1e-3, atol=1e-8)


@pytest.fixture
def written(monkeypatch):
    """In place of agents, which are compiled for seconds: runs of random features."""
    names = []

    def write(config, rule, name, numbers, path):
        del config, rule, name
        path.parent.mkdir(exist_ok=True)
        np.savez(path, **recording(19, sum(numbers)))
        names.append(path.name)

    monkeypatch.setattr(windows, "_record", write)
    return names


def run(folder, **settings):
    asked = {"teacher": "random:0", "student": "open:carry=2,width=4", **settings}
    return distill(*configure("runs-tiny", **asked), folder, io.StringIO())


def rows_of(folder):
    return [row | {"seconds": 0} for row in jsonl.read(folder / "log.jsonl")]


def test_a_run_killed_twice_resumes_bit_for_bit(written, tmp_path, monkeypatch):
    """In the first round, and in the second."""
    monkeypatch.setenv("LEARNED_OPT_RL_CHECKPOINT_SECONDS", "0")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    best = run(whole)
    recorded, measure = list(written), fitting.measure
    assert len(set(recorded)) == 4  # held out or not, in two rounds
    for validations in (2, 1):
        left = itertools.count(validations, -1)

        def interrupted(*args, left=left):
            if not next(left):
                raise KeyboardInterrupt
            return measure(*args)

        with monkeypatch.context() as patch:
            patch.setattr(fitting, "measure", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run(killed)
    assert not (killed / "final.safetensors").exists()
    assert [row["step"] for row in rows_of(killed)] == [0, 2, 4]
    run(killed)
    assert written == recorded * 2  # none twice
    assert rows_of(killed) == rows_of(whole)
    for name in ("best.safetensors", "final.safetensors", "report.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert [row["step"] for row in rows_of(whole)] == [0, 2, 4, 6, 8]
    assert [row["round"] for row in rows_of(whole)] == [1, 1, 1, 2, 2]
    lines = jsonl.read(whole / "report.jsonl")
    assert lines == best["deciles"] + best["leaves"] and len(lines) == 12


def test_a_start_is_kept_if_it_is_best(written, tmp_path):
    """Its error is not that of a random student, and its digest is in the folder."""
    _, teacher = configure("runs-tiny", teacher="random:0", student="open:4")
    start = tmp_path / "start.safetensors"
    save_safetensors(start, teacher.weights)
    asked = {"student": "open:4", "start": str(start), "rounds": 1}
    asked["learning_rate"] = 1e-30  # none is better
    best = run(tmp_path / "run", **asked)
    assert best["step"] == 0 and best["error"] == 0
    digest = hashlib.sha256(start.read_bytes()).hexdigest()
    made = json.loads((tmp_path / "run" / "config.json").read_text())
    assert made["start_sha256"] == digest
    path = tmp_path / "run" / "best.safetensors"
    found = load_safetensors(path, hashlib.sha256(path.read_bytes()).hexdigest())
    jax.tree.map(np.testing.assert_array_equal, found, dict(teacher.weights))
    save_safetensors(start, jax.tree.map(lambda x: 2 * x, teacher.weights))
    with pytest.raises(ValueError, match="holds another run .start_sha256 "):
        run(tmp_path / "run", **asked)
    with pytest.raises(ValueError, match="start='no_features/minatar' has algorithm"):
        run(tmp_path / "other", student="open:4", start="no_features/minatar")
    assert not (tmp_path / "other").exists()


def test_recorded_runs_that_are_gone_or_not_finite_are_refused(
    written, tmp_path, monkeypatch
):
    monkeypatch.setenv("LEARNED_OPT_RL_CHECKPOINT_SECONDS", "0")
    run(tmp_path / "run")
    (tmp_path / "run" / "final.safetensors").unlink()
    (tmp_path / "run" / "runs" / written[0]).unlink()
    with pytest.raises(ValueError, match="is missing, but the weights that recorded"):
        run(tmp_path / "run")

    def diverged(config, rule, name, numbers, path):
        path.parent.mkdir(exist_ok=True)
        made = recording(19)
        np.savez(path, **made | {"features": made["features"] * np.nan})

    monkeypatch.setattr(windows, "_record", diverged)
    with pytest.raises(ValueError, match="all agents in CartPole-v1 diverged"):
        run(tmp_path / "diverged")


@pytest.mark.slow
def test_the_tiny_preset_records_agents_of_teacher_and_student(tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", "distill", "--preset", "runs-tiny", "--out", str(out)]
    assert cli.main(command) == 0
    shown = capsys.readouterr()
    assert "recording 2-CartPole-v1-2560-1" in shown.err
    assert "decile 10  error" in shown.out
    rows = jsonl.read(out / "log.jsonl")
    assert rows[-1]["error"] < rows[0]["error"]
    leaves = [row["leaf"] for row in rows[-1]["leaves"]]
    assert "actor/Dense_0/kernel" in leaves and len(leaves) == 8
