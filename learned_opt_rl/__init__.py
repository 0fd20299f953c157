"""Machine-discovered reinforcement-learning algorithms as optax transformations.

Names load on first use, so that ``learned_opt_rl.artifacts`` and the command
line never wait for jax:

>>> import optax
>>> from learned_opt_rl import open_rl
>>> tx = optax.chain(optax.clip_by_global_norm(0.5), open_rl.pretrained("minatar"))
"""

import importlib
from typing import TYPE_CHECKING, Any

from learned_opt_rl._version import __version__ as __version__

if TYPE_CHECKING:
    from learned_opt_rl import artifacts as artifacts
    from learned_opt_rl import errors as errors
    from learned_opt_rl import expressions as expressions
    from learned_opt_rl import features as features
    from learned_opt_rl import testing as testing
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

# Public name -> (module, attribute); attribute None means the module itself.
_LAZY: dict[str, tuple[str, str | None]] = {
    "artifacts": ("learned_opt_rl.artifacts", None),
    "errors": ("learned_opt_rl.errors", None),
    "features": ("learned_opt_rl.features", None),
    "Horizon": ("learned_opt_rl.features", "Horizon"),
    "expressions": ("learned_opt_rl.expressions", None),
    "testing": ("learned_opt_rl.testing", None),
    "discovered": ("learned_opt_rl.rules.discovered", None),
    "drifts": ("learned_opt_rl.rules.drifts", None),
    "losses": ("learned_opt_rl.rules.losses", None),
    "lpg": ("learned_opt_rl.rules.lpg", None),
    "lpo": ("learned_opt_rl.rules.lpo", None),
    "no_features": ("learned_opt_rl.rules.no_features", None),
    "open_rl": ("learned_opt_rl.rules.open_rl", None),
    "optim4rl": ("learned_opt_rl.rules.optim4rl", None),
    "pretrained": ("learned_opt_rl.rules", "pretrained"),
}

__all__ = [
    "Horizon",
    "__version__",
    "artifacts",
    "discovered",
    "drifts",
    "errors",
    "expressions",
    "features",
    "losses",
    "lpg",
    "lpo",
    "no_features",
    "open_rl",
    "optim4rl",
    "testing",
    "pretrained",
]


def __getattr__(name: str) -> Any:
    try:
        module_name, attribute = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    module = importlib.import_module(module_name)
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
