"""Which module runs an algorithm."""

import difflib
import importlib
from types import ModuleType

from learned_opt_rl.artifacts._plugins import RULES_GROUP, entry_points
from learned_opt_rl.errors import ArtifactError

_BUILT_IN = {
    "expression": "learned_opt_rl.rules.discovered",
    "lpg": "learned_opt_rl.rules.lpg",
    "lpo": "learned_opt_rl.rules.lpo",
    "no_features": "learned_opt_rl.rules.no_features",
    "open": "learned_opt_rl.rules.open_rl",
    "open_separated": "learned_opt_rl.rules.open_rl",
    "optim4rl": "learned_opt_rl.rules.optim4rl",
}


def rule_module(algorithm: str) -> ModuleType:
    """Import the module that turns artifacts of an algorithm into transforms.

    The built-in rules come first; others are entry points of the group
    ``learned_opt_rl.rules``. This is the one place that runs a plugin's code.

    Args:
        algorithm: The ``algorithm`` field of a card.

    Returns:
        A module that offers ``from_artifact(artifact, **options)``.

    Raises:
        ArtifactError: No installed package offers the rule, several do, or the one
            that does cannot be imported or lacks ``from_artifact``.

    Example:
        >>> rule_module("opne")
        Traceback (most recent call last):
            ...
        learned_opt_rl.errors.ArtifactError: no installed rule runs the algorithm
        'opne'; did you mean 'open'? Otherwise install the package that offers it
    """
    if algorithm in _BUILT_IN:
        return importlib.import_module(_BUILT_IN[algorithm])
    module = _import_plugin(algorithm)
    if not callable(getattr(module, "from_artifact", None)):
        raise ArtifactError(
            f"rule plugin {algorithm!r}: {module!r} lacks from_artifact(artifact, "
            "**options); update or uninstall the package"
        )
    return module


def _import_plugin(algorithm: str) -> ModuleType:
    offered = entry_points(RULES_GROUP)
    matching = [entry for entry in offered if entry.name == algorithm]
    if not matching:
        known = [*_BUILT_IN, *(entry.name for entry in offered)]
        near = difflib.get_close_matches(algorithm, known, n=1)
        hint = f"did you mean {near[0]!r}? Otherwise install" if near else "install"
        raise ArtifactError(
            f"no installed rule runs the algorithm {algorithm!r}; "
            f"{hint} the package that offers it"
        )
    if len(matching) > 1:
        values = " and ".join(repr(entry.value) for entry in matching)
        raise ArtifactError(
            f"several rules run the algorithm {algorithm!r}: {values}; "
            "uninstall the packages you do not need"
        )
    try:
        return matching[0].load()
    except Exception as error:  # a third party's import can fail in any way
        raise ArtifactError(
            f"rule plugin {algorithm!r}: importing {matching[0].value!r} failed "
            f"({type(error).__name__}: {error}); update or uninstall the package"
        ) from error
