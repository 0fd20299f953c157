"""Tasks on the workers of a Dask scheduler, most of them threads of this process."""

import asyncio
import itertools
import subprocess
import sys
import threading

import numpy as np
import pytest

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.rundir import cluster
from learned_opt_rl.rundir.cluster import ClusterError, TaskError, connected
from tests.clusters import workers

distributed = pytest.importorskip("distributed")
_same_versions = pytest.importorskip("learned_opt_rl.rundir._same_versions")


@pytest.fixture(scope="module")
def address():
    with workers() as made:
        yield made


def double(values):
    if not len(values):
        raise ValueError("values are empty\nand useless")
    return 2 * values


@pytest.fixture
def known(monkeypatch):
    """Let workers call functions of tests."""
    monkeypatch.setattr(cluster, "_PACKAGES", (*cluster._PACKAGES, "tests"))


def test_every_task_has_one_outcome(address, known):
    tasks = [(np.full(3, index, np.float32),) for index in range(6)]
    with connected(address) as made:
        assert made.workers == 2
        found = dict(made.outcomes(double, tasks))
    assert sorted(found) == list(range(6))
    for index, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, 2 * tasks[index][0])


def test_an_error_is_an_outcome_and_the_others_go_on(address, known):
    with connected(address) as made:
        found = dict(made.outcomes(double, [(np.ones(1),), (np.ones(0),)]))
    assert found[0] == 2
    assert isinstance(found[1], TaskError)
    assert str(found[1]) == "ValueError: values are empty and useless"
    assert "in double" in found[1].trace


def test_a_task_that_kills_its_workers_is_an_outcome(address, known, monkeypatch):
    def killed(*_):
        raise RuntimeError("KilledWorker")  # what Dask itself sends

    monkeypatch.setattr(cluster, "perform", killed)
    with connected(address) as made:
        ((_, found),) = made.outcomes(double, [(np.ones(1),)])
    assert isinstance(found, TaskError)
    assert "KilledWorker" in str(found)


def test_functions_of_other_packages_are_refused(address):
    with connected(address) as made:
        ((_, found),) = made.outcomes(np.zeros, [(3,)])
    assert "is not a function of this package" in str(found)


def test_an_unfinished_iteration_cancels_the_rest(address, known):
    with connected(address) as made:
        cancelled, real = [], made._client.cancel
        made._client.cancel = lambda futures: (cancelled.extend(futures), real(futures))
        outcomes = made.outcomes(double, [(np.ones(1),)] * 8)
        next(outcomes)
        outcomes.close()
    assert len(cancelled) == 7


def test_a_worker_with_other_versions_is_refused(address, monkeypatch):
    # The client asks first, then the workers.
    answers = itertools.chain(
        [{"jax": "0.0.1", "python": "2.7"}],
        itertools.repeat(_same_versions.versions()),
    )
    monkeypatch.setattr(_same_versions, "versions", lambda: next(answers))
    message = r"a worker is refused: .* jax .* instead of 0.0.1, .*Start it in"
    with pytest.raises(ClusterError, match=message), connected(address):
        pass


def test_a_worker_that_joins_with_other_versions_is_closed(known, monkeypatch):
    with workers(1) as place, connected(place) as made:
        own = _same_versions.versions()
        old = own | {"jax": "0.0.1"}
        monkeypatch.setattr(_same_versions, "versions", lambda: old)
        made._client.sync(_join, place, "closed")
        monkeypatch.setattr(_same_versions, "versions", lambda: own)
        assert made.workers == 1
        made._client.sync(_join, place, "running")


def test_a_worker_with_several_threads_is_closed(address, known):
    with connected(address) as made:
        made._client.sync(_join, address, "closed", nthreads=2)
        assert dict(made.outcomes(double, [(np.ones(1),)]))[0] == 2


def test_a_task_on_a_worker_that_closes_goes_to_another(address, known, monkeypatch):
    with connected(address) as made:
        closing = {made._addresses()[0]}
        monkeypatch.setattr(_same_versions, "CLOSING", closing)
        timer = threading.Timer(2, closing.clear)  # Dask may insist on this worker
        timer.start()
        found = dict(made.outcomes(double, [(np.ones(1),)] * 4))
        timer.cancel()
    assert [found[index][0] for index in range(4)] == [2.0] * 4


def test_workers_may_join_with_any_versions_after_the_end(address, monkeypatch):
    with connected(address) as made:
        client = made._client
        assert len(made._client.run(_plugins)[client_address(client)]) == 1
    with distributed.Client(address, set_as_default=False) as client:
        assert client.run(_plugins)[client_address(client)] == []


def client_address(client):
    return next(iter(client.scheduler_info()["workers"]))


def _plugins(dask_worker):
    return [name for name in dask_worker.plugins if name.startswith("learned-opt-rl")]


async def _join(place, status, nthreads=1):
    async with distributed.Worker(place, nthreads=nthreads) as worker:
        for _ in range(100):
            await asyncio.sleep(0.02)
            if worker.status.name == status:
                return
    raise AssertionError(worker.status.name)


def test_a_cancelled_task_is_an_error(address, known, monkeypatch):
    with connected(address) as made:
        real = made._client.submit

        def cancelled(*arguments, **options):
            future = real(*arguments, **options)
            future.cancel()
            return future

        monkeypatch.setattr(made._client, "submit", cancelled)
        with pytest.raises(ClusterError, match="has cancelled the tasks; repeat the"):
            list(made.outcomes(double, [(np.ones(1),)]))


def test_a_lost_scheduler_is_an_error(known):
    with workers(1) as place, connected(place) as made:
        outcomes = made.outcomes(double, [(np.ones(1),)] * 2)
        next(outcomes)
        made._client.status = "connecting"  # what it is while the client retries
        with pytest.raises(ClusterError, match="the scheduler is gone; start it again"):
            next(outcomes)
        made._client.status = "running"


@pytest.mark.parametrize("text", ["local:", "local:0", "local:-1", "local:two"])
def test_a_number_of_local_workers_must_be_positive(text):
    raises = pytest.raises(ValueError, match=f"cluster={text!r}: give a number of proc")
    with raises, connected(text):
        pass


def test_no_scheduler_at_the_address(monkeypatch):
    monkeypatch.setattr(cluster, "_SECONDS", 0.2)
    message = "cluster='tcp://127.0.0.1:9': no scheduler answers .* start one with"
    with pytest.raises(ClusterError, match=message), connected("tcp://127.0.0.1:9"):
        pass


def test_an_address_of_another_form():
    raises = pytest.raises(
        ClusterError, match="cluster='nowhere://x': no scheduler answ"
    )
    with raises, connected("nowhere://x"):
        pass


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    raises = pytest.raises(MissingExtraError, match=r"learned-opt-rl\[cluster\]")
    with raises, connected("local:2"):
        pass
    # Comparisons on this machine load the module, too.
    hidden = "import sys; sys.modules['distributed'] = None; "
    words = f"{hidden}import learned_opt_rl.rundir.cluster"
    subprocess.run([sys.executable, "-c", words], check=True)
