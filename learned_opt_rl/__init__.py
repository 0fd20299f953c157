"""Machine-discovered reinforcement-learning algorithms as optax transformations.

Names load on first use, so that ``learned_opt_rl.artifacts`` and the command line
do not wait for jax:

>>> import optax
>>> from learned_opt_rl import Horizon, open_rl
>>> horizon = Horizon.ppo(1e7, num_envs=64, num_steps=128, epochs=4, minibatches=8)
>>> rule = open_rl.pretrained("minatar", horizon=horizon)
>>> tx = optax.chain(optax.clip_by_global_norm(0.5), rule)
"""

import importlib
from typing import TYPE_CHECKING, Any

from learned_opt_rl._version import __version__ as __version__

if TYPE_CHECKING:
    from learned_opt_rl import agents as agents
    from learned_opt_rl import artifacts as artifacts
    from learned_opt_rl import envs as envs
    from learned_opt_rl import errors as errors
    from learned_opt_rl import evaluation as evaluation
    from learned_opt_rl import expressions as expressions
    from learned_opt_rl import families as families
    from learned_opt_rl import features as features
    from learned_opt_rl import testing as testing
    from learned_opt_rl import training as training
    from learned_opt_rl.errors import HorizonWarning as HorizonWarning
    from learned_opt_rl.features import Horizon as Horizon
    from learned_opt_rl.rules import discovered as discovered
    from learned_opt_rl.rules import drifts as drifts
    from learned_opt_rl.rules import losses as losses
    from learned_opt_rl.rules import lpg as lpg
    from learned_opt_rl.rules import lpo as lpo
    from learned_opt_rl.rules import no_features as no_features
    from learned_opt_rl.rules import open_rl as open_rl
    from learned_opt_rl.rules import optim4rl as optim4rl
    from learned_opt_rl.rules import pretrained as pretrained
    from learned_opt_rl.rules import reseed as reseed

# Public module -> where it is in this package.
_MODULES = {
    name: name
    for name in (
        "artifacts",
        "errors",
        "expressions",
        "families",
        "features",
        "testing",
    )
} | {
    name: f"rules.{name}"
    for name in (
        "discovered",
        "drifts",
        "losses",
        "lpg",
        "lpo",
        "no_features",
        "open_rl",
        "optim4rl",
    )
}
# These need extras, so that ``import *`` leaves them out.
_ROOMS = ("agents", "envs", "evaluation", "training")
# Public class or function -> the room that holds it.
_VALUES = {
    "Horizon": "features",
    "HorizonWarning": "errors",
    "pretrained": "rules",
    "reseed": "rules",
}

__all__ = ["__version__", *_MODULES, *_VALUES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MODULES or name in _ROOMS:
        value = importlib.import_module(f"{__name__}.{_MODULES.get(name, name)}")
    elif name in _VALUES:
        room = importlib.import_module(f"{__name__}.{_VALUES[name]}")
        value = getattr(room, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
