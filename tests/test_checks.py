"""Tests of the checks and suggestions that every room shares."""

import math

import numpy as np
import pytest

from learned_opt_rl.checks import finite, nearest, positive_int, suggest


@pytest.mark.parametrize("value", [1, np.int32(7), np.uint8(3)])
def test_integers_of_any_type_pass_as_ints(value):
    result = positive_int("size", value)
    assert (result, type(result)) == (value, int)


@pytest.mark.parametrize("value", [0, -1, True, False, 1.0, 1.5, "3", None, math.nan])
def test_anything_else_is_refused(value):
    match = f"^size={value!r} must be a positive whole number; give more$"
    with pytest.raises(ValueError, match=match):
        positive_int("size", value, "give more")


def test_whole_floats_pass_where_allowed():
    assert positive_int("steps", 1e7, whole_floats=True) == 10_000_000
    for value in (1.5, math.inf, math.nan, True, -2.0, 0.0):
        with pytest.raises(ValueError, match="steps=.* must be a positive whole"):
            positive_int("steps", value, whole_floats=True)


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), np.int32(1)])
def test_numbers_within_bounds_pass_as_floats(value):
    result = finite("share", value, above=0, most=1)
    assert (result, type(result)) == (value, float)


@pytest.mark.parametrize("value", [0, -1.0, 1.5, math.nan, math.inf, True, "1", None])
def test_numbers_out_of_bounds_are_refused(value):
    with pytest.raises(ValueError, match="^share=.* must be a number > 0, <= 1; mend$"):
        finite("share", value, "mend", above=0, most=1)
    with pytest.raises(ValueError, match="^x=nan must be a finite number$"):
        finite("x", math.nan)


def test_suggestions():
    assert nearest("ANT", ["ant", "hopper"]) == ["ant"]
    assert suggest("mintar", ["minatar", "ant"]) == "did you mean 'minatar'?"
    assert suggest("x", ["minatar", "ant"]) == "choose one of minatar, ant"
    assert suggest("x", map(str, range(99))) == (
        "none of the 99 known names is similar"
    )
    assert suggest("x", []) == "no name is known"
