import dataclasses
import importlib.metadata
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import envs
from learned_opt_rl.envs import _gymnax, adapter, chain, gridworld, registry
from learned_opt_rl.errors import MissingExtraError
from tests import probe_envs

MODULE = "a_package_with_environments"


def entry(name, attribute, package="gardening"):
    found = importlib.metadata.EntryPoint(
        name, f"{MODULE}:{attribute}", registry.ENVIRONMENTS_GROUP
    )
    # What importlib.metadata does when it reads an installed package.
    vars(found)["dist"] = types.SimpleNamespace(name=package, version="1.5")
    return found


def broken():
    raise KeyError("seeds")


@pytest.fixture
def offer(monkeypatch):
    """Installs entry points; everything made meanwhile is forgotten again."""

    def install(*entries):
        module = types.ModuleType(MODULE)
        module.probe = probe_envs.NamedAction
        module.whole = lambda: dataclasses.replace(
            envs.adapt(probe_envs.NamedAction()), details=(("soil", "clay"),)
        )
        module.broken = broken
        module.exiting = lambda: sys.exit("no license")
        module.number = lambda: 3
        monkeypatch.setitem(sys.modules, MODULE, module)
        monkeypatch.setattr(registry, "entry_points", lambda group: list(entries))
        registry.make.cache_clear()

    yield install
    registry.make.cache_clear()


def test_same_name_same_object_of_that_name():
    assert envs.make("Catch-bsuite") is envs.make("Catch-bsuite")
    assert envs.make("Catch-bsuite").name == "Catch-bsuite"
    assert dict(envs.make("Catch-bsuite").details).keys() == {"gymnax"}


def test_listed_names_are_gymnaxs_and_all_that_the_suites_use():
    import gymnax

    assert set(_gymnax.ENVIRONMENTS) <= set(gymnax.registered_envs)
    assert len(_gymnax.ENVIRONMENTS) == 26
    names = envs.names()
    assert len(set(names)) == len(names)
    assert {name for suite in envs.SUITES for name in envs.suite(suite)} <= set(names)


def test_names_and_suites_import_none_of_the_packages():
    code = (
        "import sys; from learned_opt_rl import envs; envs.names();"
        "[envs.suite(name) for name in envs.SUITES];"
        "print({'gymnax', 'brax', 'craftax', 'flax', 'chex'} & set(sys.modules))"
    )
    shown = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert shown.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Breakout-Minatr", "name='Breakout-Minatr'.*did you mean 'Breakout-MinAtar'"),
        ("Humanoid", "did you mean 'humanoid' or 'humanoid/"),
        ("gridworld/all_shortlive", "did you mean 'gridworld/all_shortlife'"),
        ("chain/shor", "did you mean 'chain/short'"),
        (
            "zzz",
            r"none of the .* is similar \(learned_opt_rl.envs.names\(\) lists all\)",
        ),
        ("Breakout-MinAtar/big", "Breakout-MinAtar has no variants"),
        ("Craftax-Symbolic-v1/big", "Craftax-Symbolic-v1 has no variants"),
        ("ant/bullet", "backend 'bullet' is not supported; .*positional, generalized"),
        (3, "name=3 is not an environment"),
    ],
)
def test_unknown_names_get_the_nearest_of_all_sources(name, message):
    with pytest.raises(ValueError, match=message):
        envs.make(name)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("CartPole-v1", "gymnax", "train"),
        ("ant/spring", "brax", "brax"),
        ("Craftax-Classic-Symbolic-v1", "craftax", "craftax"),
    ],
)
def test_a_missing_package_names_its_extra(monkeypatch, name, package, extra):
    def absent(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(
        adapter, "importlib", types.SimpleNamespace(import_module=absent)
    )
    with pytest.raises(
        MissingExtraError, match=rf"needs {package}, .*learned-opt-rl\[{extra}\]"
    ):
        registry._find(name)


def test_a_package_offers_gymnax_style_environments_and_ours(offer):
    offer(entry("garden", "probe"), entry("bed", "whole"))
    garden, bed = envs.make("garden"), envs.make("bed")
    assert (garden.name, bed.name) == ("garden", "bed")
    assert garden.details == (("gardening", "1.5"),)
    assert bed.details == (("soil", "clay"), ("gardening", "1.5"))
    assert garden is envs.make("garden")
    assert {"garden", "bed"} <= set(envs.names())


def test_a_broken_package_is_named_and_spoils_no_other(offer):
    offer(
        entry("garden", "probe"),
        entry("weeds", "broken"),
        entry("gone", "nothing"),
        entry("shut", "exiting"),
    )
    assert envs.make("garden").num_actions == 2
    for name, problem in (
        ("weeds", "KeyError: 'seeds'"),
        ("gone", "AttributeError"),
        ("shut", "SystemExit: no license"),
    ):
        with pytest.raises(
            ValueError, match=f"'{name}' of the package 'gardening'.*{problem}"
        ):
            envs.make(name)


def test_a_package_that_offers_no_environment_is_refused(offer):
    offer(entry("three", "number"))
    with pytest.raises(TypeError, match="'three' is a int without reset, step"):
        envs.make("three")


def test_one_name_from_two_packages_is_refused(offer):
    offer(entry("garden", "probe"), entry("garden", "probe", "farming"))
    with pytest.raises(ValueError, match="several packages, gardening, farming"):
        envs.make("garden")


@pytest.mark.parametrize(
    "name", ["gridworld/mine", "ant/x", "Catch-bsuite/big", "DeepSea-bsuite/99"]
)
def test_a_package_may_add_to_our_families(offer, name):
    offer(entry(name, "probe"))
    assert name in envs.names()
    assert envs.make(name).num_actions == 2
    assert envs.make(name).details == (("gardening", "1.5"),)


def test_our_names_come_before_those_of_packages(offer):
    offer(entry("Catch-bsuite", "probe"))
    assert envs.make("Catch-bsuite").num_actions == 3
    assert envs.names().count("Catch-bsuite") == 1


def test_what_a_user_registers_with_gymnax_is_found(monkeypatch):
    import gymnax
    from gymnax.environments.bsuite.catch import Catch

    monkeypatch.setattr(gymnax.registration, "_registry", {"MyCatch": Catch})
    monkeypatch.setattr(gymnax, "registered_envs", ["MyCatch"])
    assert registry._find("MyCatch").observation_shape == (10, 5)


def test_an_environment_first_made_inside_of_a_program_serves_the_next_one():
    envs.make.cache_clear()

    def first_reward(key):
        env = envs.make("DeepSea-bsuite/4")
        _, states = env.reset_many(key, 2)
        return env.step_many(key, states, jnp.zeros(2, int)).reward.sum()

    one = jax.jit(first_reward)(jax.random.key(0))
    two = jax.jit(lambda key: first_reward(key) + 0)(jax.random.key(0))
    assert one == two


def test_the_published_suites():
    assert envs.suite("minatar") == (
        "Asterix-MinAtar",
        "Breakout-MinAtar",
        "Freeway-MinAtar",
        "SpaceInvaders-MinAtar",
    )
    assert envs.suite("minatar5") == (*envs.suite("minatar"), "Seaquest-MinAtar")
    assert envs.suite("brax") == ("ant", "humanoid", "hopper", "walker2d")


def test_five_of_each_kind_in_the_suite_of_lpg():
    names = envs.suite("lpg")
    assert len(set(names)) == len(names) == 15
    assert names[10:] == tuple(f"chain/{name}" for name in chain.NAMES)
    grids = [name.removeprefix("gridworld/") for name in names[:10]]
    observed = [gridworld.get_mode(name).observation for name in grids]
    assert observed == ["tabular"] * 5 + ["image"] * 5


def test_sizes_of_deep_sea_span_all():
    sizes = [int(name.partition("/")[2]) for name in envs.suite("deepsea")]
    assert (min(sizes), max(sizes)) == (4, 50)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minatr", "suite='minatr' is not a suite; did you mean 'minatar'"),
        ("zzz", "suite='zzz' is not a suite; choose one of minatar, minatar5,"),
        ("ant", "it is an environment. Suites: minatar, minatar5,"),
    ],
)
def test_unknown_suites(name, message):
    with pytest.raises(ValueError, match=message):
        envs.suite(name)


@pytest.mark.parametrize("name", ["gridworld/small", "chain/short", "chain/long_noisy"])
def test_the_tabular_form_has_the_same_states(name):
    env = envs.make(name)
    rows = env.tabular
    assert rows is not None and rows.name == env.name
    entries = rows.observation_shape[0] - 1
    states = env.observation_shape[0] - entries

    def play(env):
        def step(carry, key):
            observation, state = carry
            action = jax.random.randint(key, (3,), 0, env.num_actions)
            stepped = env.step_many(key, state, action)
            return (stepped.observation, stepped.state), (observation, stepped.reward)

        first = env.reset_many(jax.random.key(0), 3)
        return jax.lax.scan(step, first, jax.random.split(jax.random.key(1), 40))[1]

    one_hot, rewards = jax.jit(lambda: play(env))()
    found, same_rewards = jax.jit(lambda: play(rows))()
    np.testing.assert_array_equal(rewards, same_rewards)
    index = found[..., 0].astype(int)
    np.testing.assert_array_equal(index, one_hot[..., :states].argmax(-1))
    np.testing.assert_array_equal(found[..., 1:], one_hot[..., states:])


def test_other_environments_have_no_tabular_form():
    for name in ("CartPole-v1", "chain/distractor", "gridworld/rand_small"):
        assert envs.make(name).tabular is None


def test_a_copy_with_other_methods_has_no_tabular_form():
    env = envs.make("chain/short")
    assert dataclasses.replace(env, name="mine").tabular is env.tabular

    def step(key, state, action):
        return env.step(key, state, 1 - action)

    assert dataclasses.replace(env, step=step).tabular is None
