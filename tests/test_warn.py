"""A warning names the line of the user, whose code may be installed too."""

import pathlib
import sysconfig

import jax
import pytest

from learned_opt_rl.warn import warn_user

SITE = pathlib.Path(sysconfig.get_path("purelib"))


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (SITE / "agent/train.py", SITE / "agent/train.py"),
        (SITE / "optax_agent/train.py", SITE / "optax_agent/train.py"),
        (pathlib.Path(jax.__file__).with_name("caller.py"), pathlib.Path(__file__)),
    ],
)
def test_an_installed_agent_is_named_and_jax_is_not(path, named):
    code = compile("def call(warn): warn('text')", str(path), "exec")
    scope = {}
    exec(code, scope)  # a function of a file at the path
    with pytest.warns(UserWarning, match="text") as caught:
        scope["call"](warn_user)
    assert caught[0].filename == str(named)
