"""Every recipe of examples/recipes runs, gets somewhere, and stands in the docs."""

import functools
import importlib.util
import itertools
import re
import types
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import features, open_rl
from tests.conftest import REPOSITORY
from tests.scripts import before_and_after, run_script

RECIPES = REPOSITORY / "examples/recipes"

# Recipe -> its variants, each of which prints "loss before ..., after ...".
LOSSES = {
    "equinox_agent": 1,
    "flax_train_state": 2,
    "haiku_agent": 1,
    "hyperparameters": 2,
    "nnx_optimizer": 1,
    "optax_wrappers": 5,
    "population": 1,
    "run_length": 1,
    "stoix_style": 1,
    "without_params": 1,
}
RETURNS = ["purejaxrl_style", "rejax_agent"]
PASSES_NONE = {
    "hyperparameters",
    "population",
    "run_length",
    "stoix_style",
    "without_params",
}
PASSES_DORMANCY = LOSSES.keys() - PASSES_NONE


@functools.cache  # a recipe is run once, however many tests look at it
def run(name):
    """The names a recipe defines, its output, and the dormancies the rule got."""
    dormancies, pretrained = [], open_rl.pretrained

    def spied(*args, **kwargs):
        tx = pretrained(*args, **kwargs)

        def update(grads, state, params=None, *, dormancy=None, **extra):
            dormancies.append(dormancy)
            return tx.update(grads, state, params, dormancy=dormancy, **extra)

        return optax.GradientTransformationExtraArgs(tx.init, update)

    with mock.patch.object(open_rl, "pretrained", spied):
        names, printed = run_script(RECIPES / f"{name}.py")
    return types.SimpleNamespace(**names), printed, dormancies


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_falls(name):
    _, printed, dormancies = run(name)
    losses = before_and_after(printed)
    assert len(losses) == LOSSES[name]
    assert (losses[:, 1] < 0.8 * losses[:, 0]).all()
    assert any(d is not None for d in dormancies) == (name in PASSES_DORMANCY)


@pytest.mark.slow
def test_purejaxrl_style_learns_cart_pole():
    recipe, printed, _ = run("purejaxrl_style")
    [[before, after]] = before_and_after(printed)
    assert after > 100 > before
    roles = features.leaf_roles(recipe.params, recipe.networks)
    assert [(r.path, r.network, r.position) for r in roles] == [
        (f"params/Dense_{i}/{leaf}", "actor" if i < 3 else "critic", i % 3 / 2)
        for i, leaf in itertools.product(range(6), ("bias", "kernel"))
    ]


# Not in the test extra: it brings a nightly build of TensorFlow Probability.
@pytest.mark.skipif(not importlib.util.find_spec("rejax"), reason="no rejax")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rejax_agent_learns_cart_pole():
    with jax.numpy_rank_promotion("allow"):
        _, printed, _ = run("rejax_agent")
    [[before, after]] = before_and_after(printed)
    assert after > 100 > before


def test_checkpoints_resume_to_the_bit():
    recipe, printed, _ = run("checkpoints")
    assert printed.count("identical True") == 3
    changed = jax.tree.map(lambda x: x + x.dtype.type(1), recipe.whole)
    assert not recipe.same(recipe.whole, changed)
    # Without the optimiser's state the run goes on another way.
    params, _ = recipe.half
    assert not recipe.same(recipe.train((params, recipe.tx.init(params))), recipe.whole)


def test_equinox_agent_puts_the_neurons_on_the_first_axis():
    recipe, *_ = run("equinox_agent")
    layer = eqx.nn.Linear(2, 2, key=jax.random.key(0))
    spread = recipe.layer_dormancy(layer, jnp.array([[1.0, 3.0]]))
    np.testing.assert_allclose(spread.weight, [[0.5, 0.5], [1.5, 1.5]])
    np.testing.assert_allclose(spread.bias, [0.5, 1.5])


def test_two_optimisers_remove_two_means():
    """The difference that stoix_style names between one optimiser and two."""
    recipe, *_ = run("stoix_style")
    params, grads = recipe.params, jax.grad(recipe.loss)(recipe.params)
    networks = {n: [f"{n}.*torso", f"{n}.*head"] for n in ("actor", "critic")}
    together = sums(
        open_rl.pretrained("minatar", horizon=features.Horizon(100), networks=networks),
        grads,
        params,
    )
    apart = sums(recipe.optim.actor, [grads.actor], [params.actor])
    assert abs(together[0] + together[1]) < 1e-5 < 1e-3 < abs(together[0])
    assert abs(apart[0]) < 1e-5


def sums(tx, grads, params):
    """The sum of the first update of each of the parameters' networks."""
    updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    return [sum(float(leaf.sum()) for leaf in jax.tree.leaves(u)) for u in updates]


def test_without_params_does_what_is_done_with_them():
    recipe, *_ = run("without_params")
    params = {"critic": {"w": jnp.zeros(4)}}
    plain = optax.chain(optax.clip_by_global_norm(0.5), recipe.rule)
    state, update = plain.init(params), jax.jit(plain.update)
    for _ in range(150):
        updates, state = update(jax.grad(recipe.loss)(params), state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(recipe.params["critic"]["w"], params["critic"]["w"])
    remembered = recipe.state.params["critic"]["w"]
    np.testing.assert_allclose(recipe.params["critic"]["w"], remembered)


@pytest.mark.skipif(not importlib.util.find_spec("brax"), reason="no brax")
def test_without_params_in_brax_itself():
    gradients = importlib.import_module("brax.training.gradients")
    recipe, *_ = run("without_params")
    params = {"critic": {"w": jnp.zeros(4)}}
    step = jax.jit(gradients.gradient_update_fn(recipe.loss, recipe.tx, None))
    state = recipe.tx.init(params)
    for _ in range(150):
        _, params, state = step(params, optimizer_state=state)
    np.testing.assert_allclose(recipe.params["critic"]["w"], params["critic"]["w"])


def test_stoix_style_tells_the_rule_which_layer_is_first():
    recipe, *_ = run("stoix_style")
    for name, head in ("actor", "action_head"), ("critic", "critic_head"):
        params = getattr(recipe.params, name)
        for role in features.leaf_roles(params, {name: ""}):
            assert role.position == float(head in role.path)
            assert role.explored is (name == "actor")


def test_weight_decay_after_a_rule_shrinks_the_weights():
    recipe, *_ = run("hyperparameters")
    params = {"actor": jnp.ones((4, 4))}
    with_decay, without = (
        tx.update(params, tx.init(params), params)[0]["actor"]
        for tx in (recipe.decayed, optax.chain(recipe.clip, recipe.rule))
    )
    np.testing.assert_allclose(with_decay - without, -1e-4, rtol=1e-2)


def test_the_learning_rate_is_there_to_be_logged():
    recipe, printed, _ = run("hyperparameters")
    assert "learning rate 0.0012" in printed
    state = recipe.injected.init({"actor": jnp.ones(3)})
    assert float(recipe.learning_rate(state)) == np.float32(3e-2)


def test_progress_that_is_passed_replaces_the_count():
    recipe, *_ = run("run_length")
    agent = recipe.agent
    for reset in (False, True):  # the count is another, the progress the same
        start = recipe.reset_optimizer(agent) if reset else agent
        start = start.replace(tx=recipe.tx)
        late = recipe.step(start, jnp.float32(3136), jnp.float32(3))
        early = recipe.step(start, jnp.float32(0), jnp.float32(0))
        kernels = [a.params["params"]["kernel"] for a in (late, early)]
        assert not np.allclose(*kernels, atol=1e-7)


def test_members_of_a_population_keep_different_noise():
    recipe, *_ = run("population")
    keys = np.asarray(optax.tree.get(recipe.state, "key"))
    assert len(np.unique(keys, axis=0)) == recipe.MEMBERS


def test_every_recipe_is_run_here_and_shown_in_the_docs():
    scripts = {path.stem for path in RECIPES.glob("*.py")}
    assert scripts == {*LOSSES, *RETURNS, "checkpoints"}
    for name in scripts:
        lines = (RECIPES / f"{name}.py").read_text().splitlines()
        assert len([line for line in lines if line.strip()]) <= 75
    pages = [REPOSITORY / f"docs/{name}.md" for name in ("recipes", "migrating")]
    page = "".join(path.read_text() for path in pages)
    shown = re.findall(
        r"literalinclude} \.\./examples/recipes/(\w+)\.py\n"
        r":start-after: \"(.+)\"\n:end-before: \"(.+)\"",
        page,
    )
    assert {name for name, *_ in shown} == scripts
    assert len(shown) == page.count("literalinclude")
    for name, start, end in shown:
        lines = (RECIPES / f"{name}.py").read_text().splitlines()
        assert lines.index(start) + 1 < lines.index(end)
