"""Suites: environments that results are reported on together."""

from learned_opt_rl.checks import suggest
from learned_opt_rl.envs import _brax
from learned_opt_rl.envs.registry import names

_MINATAR = (
    "Asterix-MinAtar",
    "Breakout-MinAtar",
    "Freeway-MinAtar",
    "SpaceInvaders-MinAtar",
)
_GRIDWORLDS = (
    "all_shortlife",
    "dense",
    "sparse",
    "long",
    "longer",
    "long_dense",
    "rand_dense",
    "rand_long",
    "rand_small",
    "rand_sparse",
    "rand_very_dense",
    "mazes",
)
_LPG_GRIDWORLDS = (
    "paper_dense",
    "paper_sparse",
    "paper_long",
    "paper_longer",
    "paper_long_dense",
    "paper_rand_dense",
    "paper_rand_long",
    "paper_rand_small",
    "paper_rand_sparse",
    "paper_rand_very_dense",
)
_LPG_CHAINS = ("short", "short_noisy", "long", "long_noisy", "distractor")
_MEMBERS: dict[str, tuple[str, ...]] = {
    "minatar": _MINATAR,
    "minatar5": (*_MINATAR, "Seaquest-MinAtar"),
    "brax": _brax.ENVIRONMENTS,
    "cartpole": ("CartPole-v1",),
    "craftax": ("Craftax-Classic-Symbolic-v1",),
    "deepsea": tuple(f"DeepSea-bsuite/{size}" for size in (4, 10, 20, 30, 40, 50)),
    "gridworld": tuple(f"gridworld/{mode}" for mode in _GRIDWORLDS),
    "lpg": (
        *(f"gridworld/{mode}" for mode in _LPG_GRIDWORLDS),
        *(f"chain/{mode}" for mode in _LPG_CHAINS),
    ),
}

SUITES = tuple(_MEMBERS)
"""The names of the suites.

``minatar`` has the four games of the published results; ``minatar5`` adds Seaquest,
which is slow. ``brax`` uses the positional backend. ``gridworld`` has GROOVE's training
distribution and the handmade levels that GROOVE is tested on. ``lpg`` has the fifteen
training environments of Oh et al. 2020, table 3: five tabular grid worlds, five with
random objects, five delayed chains; `agents.lpg_arms` has their learning rates.
"""


def suite(name: str) -> tuple[str, ...]:
    """Return the names of a suite's environments, for `make`.

    Args:
        name: One of `SUITES`. A single environment is not a suite.

    Raises:
        ValueError: The suite is unknown.

    References:
        Goldie et al., "Can Learned Optimization Make RL Less Difficult?", 2024
        (minatar, brax, craftax, cartpole).
        Jackson et al., "Discovering General Reinforcement Learning Algorithms with
        Adversarial Environment Design", 2023 (gridworld).
        Oh et al., "Discovering Reinforcement Learning Algorithms", 2020 (lpg).

    Example:
        >>> suite("brax")
        ('ant', 'humanoid', 'hopper', 'walker2d')
    """
    if name not in SUITES:
        hint = suggest(name, SUITES)
        if name in names():
            hint = f"it is an environment. Suites: {', '.join(SUITES)}"
        raise ValueError(f"suite={name!r} is not a suite; {hint}")
    return _MEMBERS[name]
