import sys

import numpy as np
import pytest

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.pictures import artifact
from learned_opt_rl.rules import drifts

SHOWN = {"PPO": drifts.ppo(0.2), "none": lambda r, a: 0 * r * a}


@pytest.fixture(scope="module")
def figure():
    pytest.importorskip("matplotlib")
    return artifact.drift_figure(SHOWN)


def panels(figure):
    """The axes without the two color bars, as three rows."""
    return np.array(figure.axes[: 3 * len(SHOWN)]).reshape(3, -1)


def test_the_rows_are_slopes_drift_and_slope_map(figure):
    slopes, heights, maps = panels(figure)
    assert [axes.get_title() for axes in slopes] == ["PPO", "none"]
    assert {axes.get_xlabel() for axes in slopes} == {"ratio r"}
    assert slopes[0].get_ylabel() == "dL/dr"
    for axes in (*heights, *maps):
        assert axes.get_xlabel() == "log r"
        (image,) = axes.images
        assert list(image.get_extent()) == [-1, 1, -4, 4]
    assert heights[0].get_ylabel() == maps[0].get_ylabel() == "advantage A"
    labels = [text.get_text() for text in slopes[0].get_legend().get_texts()]
    assert labels == ["A = +1", "A = -1"]
    assert [axes.get_ylabel() for axes in figure.axes[-2:]] == ["drift", "dL/dr"]


def test_the_curves_are_ppos(figure):
    axes = panels(figure)[0, 0]
    curves = {line.get_label(): line.get_data() for line in axes.lines}
    for label, advantage in (("A = +1", 1), ("A = -1", -1)):
        ratio, slope = curves[label]
        clipped = ratio > 1.2 if advantage > 0 else ratio < 0.8
        np.testing.assert_allclose(slope, np.where(clipped, 0, -advantage))


def test_the_maps_are_over_log_ratio_and_advantage(figure):
    _, (height, flat), (slope, plain) = panels(figure)
    values = height.images[0].get_array()
    # Origin below: rows are advantages from -4 up, columns log ratios from -1 up.
    assert height.images[0].origin == "lower"
    assert values[-1, -1] == pytest.approx((np.e - 1.2) * 4, rel=1e-5)
    assert values[0, 0] == pytest.approx((0.8 - 1 / np.e) * 4, rel=1e-5)
    assert values[0, -1] == values[-1, 0] == 0
    assert not flat.images[0].get_array().any()
    advantages = np.linspace(-4, 4, 201)
    np.testing.assert_allclose(
        plain.images[0].get_array(),
        -np.tile(advantages[:, None], (1, 201)),
        atol=1e-5,
    )
    assert slope.images[0].get_array()[-1, -1] == 0


def test_colors_mean_the_same_in_every_panel(figure):
    _, heights, maps = panels(figure)
    assert {axes.images[0].get_clim() for axes in heights} == {(0, 4)}
    assert {axes.images[0].get_clim() for axes in maps} == {(-4, 4)}


def test_no_drifts_are_refused():
    with pytest.raises(ValueError, match="drifts is empty"):
        artifact.drift_figure({})


def test_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"learned-opt-rl\[eval\]"):
        artifact.drift_figure(SHOWN)
