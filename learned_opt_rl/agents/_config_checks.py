"""What the fields of every configuration have to be."""

from typing import Any

from jax.core import Tracer


def whole_numbers(config: Any, *names: str) -> None:
    """Makes whole numbers of sizes, as of ``1e7``."""
    for name in names:
        object.__setattr__(config, name, _whole(name, getattr(config, name)))


def network(config: Any) -> None:
    """Checks the network, and makes tuples of what may come as lists from JSON."""
    hidden = tuple(_whole("hidden", width) for width in config.hidden)
    object.__setattr__(config, "hidden", hidden)
    object.__setattr__(config, "conv", tuple(map(_conv_layer, config.conv)))
    if config.activation not in ("relu", "tanh"):
        raise ValueError(f'activation={config.activation!r} must be "relu" or "tanh"')
    positive(config, "input_divisor")


def shares(config: Any, *names: str) -> None:
    """Checks that fields are in [0, 1]."""
    for name, value in _known(config, names):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} must be in [0, 1]")


def positive(config: Any, *names: str, hint: str = "") -> None:
    """Checks that fields are positive."""
    for name, value in _known(config, names):
        if value is None or not value > 0:
            raise ValueError(f"{name}={value} must be positive{hint}")


def not_negative(config: Any, *names: str) -> None:
    """Checks that fields are at least 0."""
    for name, value in _known(config, names):
        if not value >= 0:
            raise ValueError(f"{name}={value} must not be negative")


def length(config: Any) -> None:
    """Checks that the run has a rollout."""
    if config.total_timesteps < config.batch_size:
        raise ValueError(
            f"total_timesteps={config.total_timesteps} is less than one rollout of "
            f"num_envs * num_steps = {config.batch_size} steps; raise it, or lower "
            "num_envs or num_steps"
        )


def _known(config: Any, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    """The fields whose values are known: of a traced one nothing can be said."""
    fields = [(name, getattr(config, name)) for name in names]
    return [(name, value) for name, value in fields if not isinstance(value, Tracer)]


def _conv_layer(layer: Any) -> tuple[int, int, int]:
    if not isinstance(layer, tuple | list) or len(layer) != 3:
        raise ValueError(
            f"conv={layer!r} must be layers of (filters, kernel, stride), as in "
            "conv=((16, 3, 1),)"
        )
    filters, kernel, stride = (_whole("conv", size) for size in layer)
    return filters, kernel, stride


def _whole(name: str, value: float) -> int:
    if not isinstance(value, int | float) or value < 1 or value % 1:
        raise ValueError(f"{name}={value!r} must be a positive whole number")
    return int(value)
