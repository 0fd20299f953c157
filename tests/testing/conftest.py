"""Fixtures that hand a test the optimizer or drift it is parametrized with."""

from collections.abc import Iterator

import pooch
import pytest

from learned_opt_rl import artifacts
from learned_opt_rl.artifacts.card import RemoteWeights
from tests.artifact_files import file_server, send
from tests.testing import subjects


@pytest.fixture(autouse=True)
def _quickly(quick_compilation: None) -> None:
    """Most of these tests' time is compilation."""


@pytest.fixture(scope="module")
def mirror(request: pytest.FixtureRequest) -> Iterator[None]:
    """Serve the published weights from the reference folder, for `artifacts.load`."""
    folder = request.getfixturevalue("reference") / "weights"
    files = {path.name: path.read_bytes() for path in folder.glob("*_OPEN.npy")}
    with (
        file_server(
            lambda handler: send(handler, files[handler.path.rpartition("/")[2]])
        ) as (address, _),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("LEARNED_OPT_RL_MIRROR", address)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setattr(pooch.get_logger(), "disabled", True)
        yield


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> subjects.Subject:
    """What a test is parametrized with, by its name in ``subjects``."""
    name = request.param
    if name.startswith("initial "):
        return subjects.initial(name)
    if isinstance(artifacts.card(name).weights, RemoteWeights):
        request.getfixturevalue("mirror")
        return subjects.registered(name, fetch=True)
    return subjects.registered(name)
