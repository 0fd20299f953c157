"""Fixtures and JAX settings every test module shares."""

import contextlib
import itertools
import os
import pathlib
from collections.abc import Iterator

# Both variables are read when JAX starts its backend, so they are set before the
# import below: two CPU devices let the sharding tests run on any machine.
_COUNT = "--xla_force_host_platform_device_count"
if _COUNT not in os.environ.get("XLA_FLAGS", ""):
    flags = [os.environ.get("XLA_FLAGS", ""), f"{_COUNT}=2"]
    os.environ["XLA_FLAGS"] = " ".join(flags).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402
import pytest  # noqa: E402

# Silent broadcasting is the classic bug of per-parameter feature code.
jax.config.update("jax_numpy_rank_promotion", "raise")

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
_NUMBERS = itertools.count()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests of last digits under the compiler flag that changes them."""
    fast = "xla_cpu_use_fusion_emitters=false" in os.environ["XLA_FLAGS"]
    if fast and item.get_closest_marker("exact"):
        pytest.skip("needs the fusion emitters; make test runs it with them before")


@pytest.fixture(autouse=True)
def _isolated_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Point the artifact cache at a fresh folder, so no test sees the user's.

    `mktemp` would list the folders of all former tests.
    """
    cache = tmp_path_factory.getbasetemp() / "caches" / str(next(_NUMBERS))
    cache.mkdir(parents=True)
    monkeypatch.setenv("LEARNED_OPT_RL_CACHE", str(cache))


@contextlib.contextmanager
def quickly_compiled() -> Iterator[None]:
    """Compile without optimizing; afterwards as before, which `make test` sets."""
    flag = "jax_disable_most_optimizations"
    before = jax.config.read(flag)
    jax.config.update(flag, True)
    try:
        yield
    finally:
        jax.config.update(flag, before)


@pytest.fixture
def quick_compilation() -> Iterator[None]:
    """Compile without optimizing, for tests whose time is compilation."""
    with quickly_compiled():
        yield


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """The root of this source checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def reference() -> pathlib.Path:
    """The folder of reference data (golden vectors, published weights).

    Taken from ``LEARNED_OPT_RL_REFERENCE``, by default ``../shared`` beside the
    checkout. None of it is in the repository, so its tests skip without it.
    """
    chosen = os.environ.get("LEARNED_OPT_RL_REFERENCE") or REPOSITORY.parent / "shared"
    folder = pathlib.Path(chosen)
    if not (folder / "golden").is_dir():
        pytest.skip(
            f"no reference data: {folder}/golden does not exist; "
            "set LEARNED_OPT_RL_REFERENCE to the folder that holds golden/ and weights/"
        )
    return folder


class KeyStream:
    """Yields a fresh PRNG key per call, all derived from one seed."""

    def __init__(self, seed: int) -> None:
        self._key = jax.random.key(seed)

    def __call__(self) -> jax.Array:
        self._key, key = jax.random.split(self._key)
        return key


@pytest.fixture
def getkey() -> KeyStream:
    """A function returning a new key on each call, the same ones in every run."""
    return KeyStream(0)
