"""gymnax: classic control, MinAtar, bsuite."""

import dataclasses
import sys

from learned_opt_rl.envs.adapter import (
    Environment,
    adapt,
    in_32_bits,
    require,
    versions,
)

DEEP_SEA = "DeepSea-bsuite"
DEEP_SEA_SIZES = range(4, 51)  # From OPEN's least size to its largest (F.5).

# Listed here because importing gymnax takes seconds.
ENVIRONMENTS = (
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Asterix-MinAtar",
    "Breakout-MinAtar",
    "Freeway-MinAtar",
    "Seaquest-MinAtar",
    "SpaceInvaders-MinAtar",
    "Catch-bsuite",
    DEEP_SEA,
    "MemoryChain-bsuite",
    "UmbrellaChain-bsuite",
    "DiscountingChain-bsuite",
    "MNISTBandit-bsuite",
    "SimpleBandit-bsuite",
    "FourRooms-misc",
    "MetaMaze-misc",
    "PointRobot-misc",
    "BernoulliBandit-misc",
    "GaussianBandit-misc",
    "Reacher-misc",
    "Swimmer-misc",
    "Pong-misc",
    "FrozenLake-misc",
)
NAMES = (*ENVIRONMENTS, *(f"{DEEP_SEA}/{size}" for size in DEEP_SEA_SIZES))

# The time limit of environments that nothing else ends.
EPISODE_LENGTHS = {"Freeway-MinAtar": 2500, "Pendulum-v1": 200}

# Deep Sea pays 1 for going right at every step, and these steps cost 0.01 in all.
OPTIMAL_RETURNS = {"CartPole-v1": 500.0, DEEP_SEA: 0.99}


@in_32_bits
def make(name: str) -> Environment:
    """Build an environment with gymnax's default parameters."""
    head, slash, size = name.partition("/")
    options = {"size": deep_sea_size(name, size)} if slash else {}
    gymnax = require("gymnax", "train")
    return dataclasses.replace(
        adapt(*gymnax.make(head, **options), name=name),
        details=versions("gymnax"),
        optimal_return=OPTIMAL_RETURNS.get(head),
    )


def is_registered(name: str) -> bool:
    """Whether the user registered this name with ``gymnax.register``."""
    gymnax = sys.modules.get("gymnax")
    return gymnax is not None and name in gymnax.registered_envs


def deep_sea_size(name: str, size: str) -> int:
    if not name.startswith(f"{DEEP_SEA}/"):
        raise ValueError(
            f"name={name!r}: {name.partition('/')[0]} has no variants; "
            "give the name without a slash"
        )
    if not size.isdecimal() or int(size) not in DEEP_SEA_SIZES:
        raise ValueError(
            f"name={name!r}: size must be {DEEP_SEA_SIZES[0]} to {DEEP_SEA_SIZES[-1]}, "
            f"for example '{DEEP_SEA}/10'"
        )
    return int(size)
