"""Environments that results are reported on together."""

from learned_opt_rl.envs import _brax
from learned_opt_rl.envs.registry import names, nearest

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

``minatar``: the four games of the published results; ``minatar5`` adds Seaquest, which
is slow. ``brax``: with the positional backend. ``gridworld``: the distribution that
GROOVE trains on, and the levels made by hand that it is tested on. ``lpg``: the fifteen
training environments of Oh et al. 2020, table 3: five tabular grid worlds, five with
random objects, five delayed chains; `agents.lpg_arms` has their learning rates.
"""


def suite(name: str) -> tuple[str, ...]:
    """Looks up the environments of a suite.

    Args:
        name: One of `SUITES`. A single environment is not a suite: give it to `make`.

    Returns:
        Names for `make`.

    Raises:
        ValueError: If there is no such suite.

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
        hint = (
            "it is an environment of its own"
            if name in names()
            else nearest(name, SUITES)
        )
        raise ValueError(
            f"suite={name!r} is no suite; {hint}; there are {', '.join(SUITES)}"
        )
    return _MEMBERS[name]
