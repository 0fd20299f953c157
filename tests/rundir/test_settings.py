import dataclasses
from typing import Literal

import pytest

from learned_opt_rl.agents import LPGConfig
from learned_opt_rl.rundir import settings


@dataclasses.dataclass
class Inner:
    size: int = 1


@dataclasses.dataclass
class Config:
    total_timesteps: int = 1
    count: int = 1
    rate: float = 0.1
    limit: float | None = None
    flag: bool = False
    word: str = "a"
    choice: Literal["x", "y"] = "x"
    hidden: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    stages: tuple[tuple[int, int], ...] = ()
    conv: tuple[tuple[int, int, int], ...] = ()
    inner: dict = dataclasses.field(default_factory=dict)


VALUES = {
    "count": 10,
    "rate": 0.5,
    "limit": None,
    "flag": True,
    "word": "b",
    "choice": "y",
    "hidden": (8, 4),
    "names": ("ant", "hopper"),
    "rates": (0.5, 40.0),
    "stages": ((0, 5), (10, 20)),
    "conv": ((16, 3, 1), (32, 3, 2)),
    "inner": {"size": 3},
}
TEXTS = [
    *("count=10", "rate=0.5", "limit=none", "flag=true", "word=b", "choice=y"),
    *(
        "hidden=8x4",
        "names=ant,hopper",
        "rates=0.5,40.0",
        "stages=0:5,10:20",
        "conv=16:3:1,32:3:2",
        "inner.size=3",
    ),
]


def test_values_of_every_type_come_back():
    assert settings.format(VALUES) == TEXTS
    assert settings.parse(TEXTS, Config, inner=Inner) == VALUES


def test_numbers_may_have_exponents_and_layers_may_be_none():
    found = settings.parse(["count=1e1", "stages=2e5", "hidden=none"], Config)
    assert found == {"count": 10, "stages": ((0, 200_000),), "hidden": ()}
    found = settings.parse(["max_grad_norm=none", "conv=none"], LPGConfig)
    assert found == {"max_grad_norm": None, "conv": ()}
    assert settings.format({"hidden": []}) == ["hidden=none"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count", "--set 'count' is not NAME=VALUE with one of the names count, rate"),
        ("total_timesteps=3", "is not NAME=VALUE with one of"),
        ("conv=3:x", "'conv=3:x': 'x' is not a number"),
        ("inner=3", "'inner' is not a setting; did you mean 'inner.size'"),
        ("zzz=3", "is not NAME=VALUE with one of"),
        ("inner.color=3", "'inner.color=3' is not NAME=VALUE with .*, inner.size"),
        ("count=1.5", "--set 'count=1.5': '1.5' is not a whole number"),
        ("rate=high", "'high' is not a number"),
        ("flag=yes", "'yes' must be true or false"),
        ("hidden=4x", "'' is not a number"),
        ("stages=1-2", "'1-2' is not a number; write pairs as 0:2e5,100:1e6"),
    ],
)
def test_wrong_texts_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        settings.parse([text], Config, inner=Inner)


def test_a_field_is_given_once():
    with pytest.raises(ValueError, match="gives 'inner.size' twice"):
        settings.parse(["inner.size=1", "inner.size=2"], Config, inner=Inner)
