"""Save the state of a run, so that a killed run resumes where it stopped.

A checkpoint is an ``.npz`` file: one array per leaf, named by its path in the tree. The
sha256 of these bytes follows them, so an incomplete file is always recognized.
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

from learned_opt_rl.rundir.atomic import kept_beside, set_aside, write_atomically

FORMAT = 1
"""Version of the file format and of the states in it.

Increase it when this version would misread an older file, or would resume it to other
numbers: such a file is then refused instead. If that holds for one kind of run only,
increase the ``revision`` of its `Checkpoint`.
"""

_META = "meta"
_UNSET = "(unset)"  # not a value that a setting may have
_INTERVAL = "LEARNED_OPT_RL_CHECKPOINT_SECONDS"
_SECONDS = 60  # A kill costs at most a minute of work; a save takes milliseconds.


class Checkpoint:
    """The file that holds a run's state while it runs.

    The identity consists of JSON-able values that must be equal for the state to be
    resumed. ``every`` is the number of seconds between two saves, by default the value
    of the environment variable ``LEARNED_OPT_RL_CHECKPOINT_SECONDS``, else 60.
    ``revision`` numbers the states of one kind of run; files of another are refused.
    """

    def __init__(
        self,
        path: pathlib.Path,
        identity: Any,
        every: float | None = None,
        revision: int = 0,
    ) -> None:
        self.path = path
        self._revision = revision
        self._identity = json.loads(json.dumps(identity))
        self._every = float(
            os.environ.get(_INTERVAL, _SECONDS) if every is None else every
        )
        self._last = time.monotonic()

    @property
    def _format(self) -> int | str:
        return f"{FORMAT}.{self._revision}" if self._revision else FORMAT

    @property
    def due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self._last >= self._every

    def save(self, tree: Any, *, done: int, seconds: float) -> None:
        """Write a pytree of arrays atomically, typed PRNG keys included.

        ``done`` counts steps, such as rollouts or generations; they took ``seconds``.
        """
        meta = {
            "format": self._format,
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
        """Return the result of `read`, or None without a file that can be resumed.

        A file that cannot be resumed is renamed, with a warning. The versions, device
        and options that wrote the file find it again.
        """
        refused = None
        if self.path.exists():
            try:
                return self.read(template)
            except RefusedError as error:
                kept = set_aside(self.path)
                refused = f"{error}. The file is kept as {kept.name}"
        for other in kept_beside(self.path):
            try:
                found = self._read(other, template)
            except RefusedError:
                continue
            other.rename(self.path)
            return found
        if refused:
            warnings.warn(
                f"{self.path} cannot be resumed, so the run starts over: {refused}",
                stacklevel=2,
            )
        return None

    def remove(self) -> None:
        """Delete the file, if there is one."""
        self.path.unlink(missing_ok=True)

    def read(self, template: Any) -> tuple[Any, int, float]:
        """Return the state, the steps done and the seconds taken.

        The template is a pytree of arrays or shapes, with the structure, shapes and
        dtypes of the state. A file that does not fit is a `RefusedError`.
        """
        return self._read(self.path, template)

    def _read(self, path: pathlib.Path, template: Any) -> tuple[Any, int, float]:
        arrays, meta = read_whole(path)
        if meta["format"] != self._format:
            raise RefusedError(
                f"its format is {meta['format']}, but this version reads "
                f"{self._format}; "
                "resume it with the version that wrote it"
            )
        changed = differences(meta["identity"], self._identity)
        if changed:
            raise RefusedError(
                f"it was written with other values ({', '.join(changed)}); repeat the "
                "command with those values to resume it"
            )
        return _restore(template, arrays), meta["done"], meta["seconds"]


class RefusedError(ValueError):
    """A file cannot be resumed; the message gives the reason."""


def read_whole(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a checkpoint by name, and its metadata such as ``done``.

    A damaged file is a `RefusedError`.
    """
    content = path.read_bytes()
    content, digest = content[:-32], content[-32:]
    if hashlib.sha256(content).digest() != digest:
        raise RefusedError("the file is damaged")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    return arrays, json.loads(arrays.pop(_META).tobytes())


def differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    """Describe where two JSON values differ, such as ``jax 0.10.2 -> 0.10.3``.

    A field that a file lacks is None. In a group, such as the settings of an agent, it
    has its default, which need not be None.
    """
    if isinstance(found, dict) and isinstance(wanted, dict):
        absent, group = (_UNSET, f"{name}.") if name else (None, "")
        return [
            text
            for key in dict.fromkeys([*found, *wanted])
            for text in differences(
                found.get(key, absent), wanted.get(key, absent), f"{group}{key}"
            )
        ]
    shown = f"{name} {_shown(found)} -> {_shown(wanted)}"
    return [] if found == wanted else [shown]


def _shown(value: Any) -> str:
    """Return a value, or a digest of a long one, whose beginning tells too little."""
    text = str(value)
    if len(text) <= 200 and "\n" not in text:
        return text
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _restore(template: Any, arrays: dict[str, np.ndarray]) -> Any:
    wanted = dict(_leaves(template))
    if sorted(wanted) != sorted(arrays):
        raise RefusedError("its arrays do not match those of this run")
    leaves = [_like(path, like, arrays[path]) for path, like in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _like(path: str, like: Any, array: np.ndarray) -> Any:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        _check(path, jax.eval_shape(jax.random.key_data, like), array)
        return jax.random.wrap_key_data(jnp.asarray(array), impl=_implementation(like))
    # numpy has no bfloat16: such arrays come back as raw bytes.
    array = array.view(like.dtype) if array.dtype.kind == "V" else array
    _check(path, like, array)
    return array


def _implementation(like: Any) -> Any:
    # A template may be a shape without keys; only a trace can ask it for its generator.
    found = []
    jax.eval_shape(lambda keys: found.append(jax.random.key_impl(keys)), like)
    return found[0]


def _check(path: str, like: Any, array: np.ndarray) -> None:
    if (like.shape, like.dtype) != (array.shape, array.dtype):
        raise RefusedError(
            f"its {path} is {array.dtype}{list(array.shape)}, but this run's is "
            f"{like.dtype}{list(like.shape)}"
        )


def _plain(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _leaves(tree: Any) -> Iterable[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [("state" + jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
