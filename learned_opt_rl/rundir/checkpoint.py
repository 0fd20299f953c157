"""The state of a run on disk, so that a killed run goes on where it was.

One ``.npz`` per group of seeds, arrays by their path in the tree, followed by the
sha256 of what precedes it: a file that is not whole is never taken for one that is.
"""

import hashlib
import io
import json
import os
import pathlib
import time
import warnings
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.rundir.atomic import write_atomically

FORMAT = 1
"""Raised whenever a file of the code before could not be continued."""

_META = "meta"
_INTERVAL = "LEARNED_OPT_RL_CHECKPOINT_SECONDS"


class Checkpoint:
    """Where one group of seeds is kept while it runs.

    Args:
        path: The file.
        identity: What must be the same for the state to be continued; JSON-able.
        every: Seconds between two saves; by default those of the environment variable
            ``LEARNED_OPT_RL_CHECKPOINT_SECONDS``, or 60.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kept = Checkpoint(pathlib.Path(folder) / "run.npz", {"rule": "adam"})
        ...     kept.save({"x": jnp.arange(3)}, done=7, seconds=1.5)
        ...     tree, done, seconds = kept.load({"x": jnp.arange(3)})
        >>> tree["x"].tolist(), done, seconds
        ([0, 1, 2], 7, 1.5)
    """

    def __init__(
        self, path: pathlib.Path, identity: Any, every: float | None = None
    ) -> None:
        """Reads and writes nothing yet."""
        self.path = path
        self._identity = json.loads(json.dumps(identity))
        self._every = float(os.environ.get(_INTERVAL, 60)) if every is None else every
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._last >= self._every

    def save(self, tree: Any, *, done: int, seconds: float) -> None:
        """Writes a state, atomically.

        Args:
            tree: Arrays, among them typed PRNG keys.
            done: Rollouts done.
            seconds: Time they took.
        """
        meta = {
            "format": FORMAT,
            "identity": self._identity,
            "done": done,
            "seconds": seconds,
        }
        arrays = {_META: np.frombuffer(json.dumps(meta).encode(), np.uint8)}
        for path, leaf in _leaves(tree):
            arrays[path] = _plain(leaf)
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **arrays)
        content = stream.getvalue()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, content + hashlib.sha256(content).digest())
        self._last = time.monotonic()

    def load(self, template: Any) -> tuple[Any, int, float] | None:
        """Reads what `save` wrote.

        Args:
            template: A tree of arrays or shapes as the state must be.

        Returns:
            The state, rollouts done and seconds taken; None where there is none. One
            that cannot be continued is refused with a warning, and is None as well.
        """
        if not self.path.exists():
            return None
        try:
            return self.read(template)
        except RefusedError as refused:
            warnings.warn(
                f"{self.path} is not continued, the run starts over: {refused}",
                stacklevel=2,
            )
            return None

    def remove(self) -> None:
        """Deletes the file, if there is one."""
        self.path.unlink(missing_ok=True)

    def read(self, template: Any) -> tuple[Any, int, float]:
        """As `load`, of a file that must be there and fit.

        Args:
            template: As for `load`.

        Returns:
            The state, rollouts done and seconds taken.

        Raises:
            RefusedError: It cannot be continued; says why.
        """
        arrays, meta = read_whole(self.path)
        if meta["format"] != FORMAT:
            raise RefusedError(f"it is of format {meta['format']}, not {FORMAT}")
        different = _differences(meta["identity"], self._identity)
        if different:
            raise RefusedError(f"it is of another {', '.join(different)}")
        return _restore(template, arrays), meta["done"], meta["seconds"]


class RefusedError(ValueError):
    """A file that is not to be continued; says why."""


def read_whole(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a file and what it says of itself, as ``done``.

    Args:
        path: Written by `Checkpoint.save`.

    Raises:
        RefusedError: It is not whole.
    """
    content = path.read_bytes()
    content, digest = content[:-32], content[-32:]
    if hashlib.sha256(content).digest() != digest:
        raise RefusedError("the file is damaged")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    return arrays, json.loads(arrays.pop(_META).tobytes())


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    names = sorted({*found, *wanted})
    return [name for name in names if found.get(name) != wanted.get(name)]


def _restore(template: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The arrays as a tree; raises if they are not those of the template."""
    wanted = dict(_leaves(template))
    if sorted(wanted) != sorted(arrays):
        raise RefusedError("it holds other arrays than this run has")
    leaves = [_like(path, like, arrays[path]) for path, like in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _like(path: str, like: Any, array: np.ndarray) -> Any:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        _check(path, jax.eval_shape(jax.random.key_data, like), array)
        return jax.random.wrap_key_data(jnp.asarray(array), impl=_implementation(like))
    # numpy knows no bfloat16 and the like, and gives back their bytes.
    array = array.view(like.dtype) if array.dtype.kind == "V" else array
    _check(path, like, array)
    return array


def _implementation(like: Any) -> Any:
    """The generator of typed keys of which only the shape is known."""
    found = []
    jax.eval_shape(lambda keys: found.append(jax.random.key_impl(keys)), like)
    return found[0]


def _check(path: str, like: Any, array: np.ndarray) -> None:
    if (like.shape, like.dtype) != (array.shape, array.dtype):
        raise RefusedError(
            f"its {path} is {array.dtype}{list(array.shape)}, this run's "
            f"{like.dtype}{list(like.shape)}"
        )


def _plain(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _leaves(tree: Any) -> Iterable[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [("state" + jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
