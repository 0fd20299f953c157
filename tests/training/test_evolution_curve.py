"""What shows a campaign: the curve and TensorBoard's events."""

import dataclasses
import io
import json
import sys

import numpy as np
import pytest

from learned_opt_rl import cli
from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.pictures import figures as pictures
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.evolution import Campaign, Execution, campaign, progress
from learned_opt_rl.training.evolution import folder as folders
from learned_opt_rl.training.evolution.progress import CURVE, draw_curve
from learned_opt_rl.training.watchers import EVENTS, scalars
from tests.training.test_evolution_campaign import CONFIG, Cheap

GAMES = ("Asterix-MinAtar", "Breakout-MinAtar")


def rows(generations, change=3):
    """A log; one game is worth a thousand times the other."""
    made = [{"generation": 0, "validation": 0.5, "validation_returns": {}}]
    for generation in range(1, generations + 1):
        horizon = 1000 if generation <= change else 2000
        made.append({"generation": generation, "horizon": horizon, "mean": 1.0})
        made[-1]["best"] = None if generation == 2 else 2.0
        if generation % 2 == 0:
            made[-1]["validation"] = generation / 2
    for row in made:
        if "validation" in row:
            value = row["validation"]
            row["validation_returns"] = dict(zip(GAMES, (value, None), strict=True))
    return made


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, in place of files."""
    figures = []
    monkeypatch.setattr(
        pictures, "save", lambda figure, path, **_: figures.append((figure, path))
    )
    return figures


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_shows_members_the_mean_each_game_and_where_the_horizon_changes(drawn):
    draw_curve(rows(6), "curve.png")
    ((figure, path),) = drawn
    assert path == "curve.png"
    fitness, *games = figure.axes
    shown = lines(fitness)
    mean = shown["the mean, validated"]
    assert mean.get_xdata().tolist() == [0, 2, 4, 6]
    assert mean.get_ydata().tolist() == [0.5, 1, 2, 3]
    best = shown["best member"].get_ydata()
    assert np.isnan(best[1]) and best[0] == 2
    assert shown["mean of members"].get_xdata().tolist() == [*range(1, 7)]
    assert [axes.get_title() for axes in games] == [*GAMES]
    assert games[0].get_lines()[0].get_ydata().tolist() == [0.5, 1, 2, 3]
    assert np.isnan(games[1].get_lines()[0].get_ydata()).all()
    for axes in figure.axes:
        changes = [x.get_xdata() for x in axes.get_lines() if x.get_linestyle() == ":"]
        assert changes == [[3.5, 3.5]]


def test_one_environment_and_one_horizon_need_no_more_than_fitness(drawn):
    log = rows(4, change=9)
    for row in log:
        if "validation" in row:
            row["validation_returns"] = {"Catch": row["validation"]}
    draw_curve(log, "curve.png")
    (axes,) = drawn[0][0].axes
    assert len(axes.get_lines()) == 3


@pytest.fixture
def cheap(monkeypatch):
    monkeypatch.setattr(campaign, "Evaluator", Cheap)


def run(folder, stream=None, tensorboard=False, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    execution = Execution(tensorboard=tensorboard)
    return Campaign(config, folder, execution, stream or io.StringIO()).run()


def test_a_campaign_draws_at_each_validation(tmp_path, cheap, monkeypatch):
    told, really = [], progress.draw_curve

    def spy(log, path):
        told.append([row["generation"] for row in log])
        if len(told) == 1:
            really(log, path)

    monkeypatch.setattr(progress, "draw_curve", spy)
    run(tmp_path, generations=2)
    assert (tmp_path / CURVE).read_bytes().startswith(b"\x89PNG")
    run(tmp_path, generations=3)
    assert told == [[0], [0, 1, 2], [0, 1, 2, 3]]


def test_without_matplotlib_there_is_one_line_and_no_curve(
    tmp_path, cheap, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.warns(UserWarning, match="campaign continues without curve.png") as got:
        run(tmp_path)
    assert not (tmp_path / CURVE).exists()
    (warning,) = got
    assert "plots need matplotlib" in str(warning.message)
    assert "learned-opt-rl[eval]" in str(warning.message)


def test_the_command_draws_from_the_log_alone(tmp_path, capsys):
    jsonl.append(tmp_path / folders.LOG, rows(4))
    picture = tmp_path / "again.png"
    command = ["train", "curve", str(tmp_path)]
    assert cli.main([*command, "--out", str(picture)]) == 0
    assert capsys.readouterr().out == f"{picture}\n"
    assert cli.main(command) == 0
    assert (tmp_path / CURVE).read_bytes() == picture.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/none"], "none has no learning curve; give the folder of `train es`"),
        (["{}"], "the log holds no generation yet"),
        (["{}/distilled"], "distilled has no learning curve; give the folder of"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, capsys, arguments, message):
    (tmp_path / folders.LOG).write_text("")
    jsonl.append(tmp_path / "distilled" / folders.LOG, [{"step": 2, "error": 0.5}])
    command = [text.format(tmp_path) for text in arguments]
    assert cli.main(["train", "curve", *command]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err and output.err.count("\n") == 1


def events(folder):
    """What a reader of the events sees: a mark hides what was written before it."""
    record_writer = pytest.importorskip("tensorboardX.record_writer")
    from tensorboardX.proto.event_pb2 import Event

    assert record_writer
    seen = {}
    for path in sorted(folder.glob("events.*")):
        for event in map(Event.FromString, records(path.read_bytes())):
            if event.HasField("session_log"):
                seen = {k: v for k, v in seen.items() if k[1] < event.step}
            for value in event.summary.value:
                key = value.tag, event.step
                seen[key] = [*seen.get(key, []), value.simple_value]
    return seen


def records(content):
    """TFRecords: length (8 bytes), its checksum (4), the record, its checksum (4)."""
    while content:
        size = int.from_bytes(content[:8], "little")
        yield content[12 : 12 + size]
        content = content[16 + size :]


def test_events_are_the_rows_none_twice_after_a_resume(tmp_path, cheap, monkeypatch):
    pytest.importorskip("tensorboardX")
    monkeypatch.setattr(progress, "draw_curve", lambda *_: None)
    run(tmp_path, generations=2)  # without events, which come all the same
    run(tmp_path, tensorboard=True, generations=4)
    # As if killed after its events, before its state: a generation is run again.
    (tmp_path / folders.STATES[0]).unlink()
    run(tmp_path, tensorboard=True, generations=5)
    found = events(tmp_path / EVENTS)
    expected = {
        (tag, row["generation"]): [pytest.approx(value, rel=1e-6)]
        for row in jsonl.read(tmp_path / folders.LOG)
        for tag, value in scalars(row)
    }
    assert found == expected
    assert ("fitness/validation", 5) in found and ("fitness/mean", 1) in found
    assert ("members/CartPole-v1", 3) in found and ("mean/CartPole-v1", 0) in found


def test_without_tensorboardx_nothing_is_written(tmp_path, cheap, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    message = r"tensorboard=True needs tensorboardX.*rl\[tensorboard\]"
    with pytest.raises(MissingExtraError, match=message):
        run(tmp_path / "new", tensorboard=True)
    assert not (tmp_path / "new").exists()


def test_values_that_are_not_finite_are_not_written():
    row = {"generation": 3, "best": None, "mean": 1.0, "returns": {"Catch": None}}
    row = json.loads(json.dumps(row))
    assert dict(scalars(row)) == {"fitness/mean": 1.0}


def test_a_watcher_that_fails_stops_no_campaign(tmp_path, cheap, monkeypatch):
    calls = []

    class Full:
        def __init__(self, folder, rows):
            pass

        def __call__(self, row):
            calls.append(row["generation"])
            raise OSError("No space left on device")

    def missing(*_):
        raise TypeError("no\nbackend")

    monkeypatch.setattr(campaign, "TensorBoard", Full)
    monkeypatch.setattr(campaign, "Curve", missing)
    monkeypatch.setattr(campaign.watching, "require_tensorboard", lambda: None)
    with pytest.warns(UserWarning, match="continues") as got:
        run(tmp_path, tensorboard=True, generations=2)
    assert [str(warning.message) for warning in got] == [
        f"the campaign continues without {CURVE}: TypeError: no backend",
        f"the campaign continues without {EVENTS}: OSError: No space left on device",
    ]
    assert calls == [0]
    assert len(jsonl.read(tmp_path / folders.LOG)) == 3
