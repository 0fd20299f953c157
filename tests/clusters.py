"""Dask workers for tests."""

import contextlib


@contextlib.contextmanager
def workers(count=2):
    """Yield the address of a scheduler, all of whose workers are in this process."""
    import distributed

    made = distributed.LocalCluster(
        n_workers=count, threads_per_worker=1, processes=False, dashboard_address=":0"
    )
    with made:
        yield made.scheduler_address
