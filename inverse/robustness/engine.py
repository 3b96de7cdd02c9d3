"""The sweep: a grid of problems, priors, samplers, score errors, amplitudes, noise levels and seeds.

A cell is the unit of results, kept under the digest of all that determines it; the cells of one group, which differ in
the amplitude alone, are run together. Whatever the backend, the number of workers and the order, a group is computed
in the same way from the same seeds, on one thread, so that results are identical.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from tqdm import tqdm

from inverse.checks import whole
from inverse.driver import Sampler
from priors.base import Prior

from . import settings
from .base import PriorError
from .cells import Row, compute, lost
from .grid import Grid, Group, named, real_numbers, whole_numbers
from .problem import Problem
from .results import Sweep
from .store import Store
from .tuning import Tuned

# What is read when a process starts: OpenMP's number of threads, and that glibc keeps memory which is freed, since
# several processes that return and fetch it at every step wait for each other in the kernel.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
# Workers that die before they have started are tried again so often before the sweep is given up.
ATTEMPTS = 3


def sweep(
    problems: Problem | Mapping[str, Problem | Callable[[int], Problem]],
    priors: Prior | Mapping[str, Prior],
    samplers: Sampler | Sequence[Sampler] | Mapping[str, Sampler | Tuned],
    errors: PriorError | Sequence[PriorError] | Mapping[str, PriorError],
    amplitudes: Sequence[float],
    sigmas: Sequence[float],
    seeds: Sequence[int] = (0, 1, 2),
    n: int = 100,
    out: str | Path | None = None,
    workers: int = 1,
    cluster: str | None = None,
    progress: bool = False,
    retry_failed: bool = False,
) -> Sweep:
    """Run every cell of the grid that has no result yet.

    problems: a `Problem`, or several by name, also as functions of the seed. priors: by name, say
    {"generic": p, "maximum-entropy": MaximumEntropy(p)}; an error is put inside a MaximumEntropy prior.
    samplers: with their hyper-parameters, or `Tuned` ones; the noise level of a cell replaces `sigma`, or `sigma_min`
    of those that anneal. errors: their own amplitude is replaced by each of `amplitudes` (> 0); the run without error,
    with the same random numbers, is what they are compared with. amplitudes, sigmas, seeds: several numbers each, as a
    list, range, array or tensor, also where there is one: [0.1], range(3). n: chains per measurement.
    out: folder of the results, made where it is missing; None keeps them in memory. Interrupted or killed, the same
    call goes on where it was; a second one computes nothing. A cell that fails is recorded with its error, also where
    it kills a worker process; with 1 worker it would kill this one.
    workers: processes on this machine, one thread each; 1 computes in this one. cluster: address of a Dask scheduler
    (extra `cluster`), whose workers must have this package.
    retry_failed: compute again the groups of cells that have failed ones, which otherwise stay as they are.
    Raises ValueError for an empty grid, values out of range, and a folder of another sweep, of another version, or in
    use; TypeError for members of another kind.
    """
    whole("workers", workers)
    grid = Grid(
        named("problems", problems, Problem),
        named("priors", priors, Prior),
        named("samplers", samplers, Sampler),
        named("errors", errors, PriorError),
        real_numbers("amplitudes", amplitudes),
        real_numbers("sigmas", sigmas),
        whole_numbers("seeds", seeds),
        n,
    )
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory()) if out is None else out
        store = stack.enter_context(Store(folder, grid.fingerprint, _about(grid)).opened())
        done = store.done(retry_failed)
        todo = [group for group in grid.groups() if not done.issuperset(grid.keys(group))]
        backend = _backend(grid, workers, cluster)
        total = len(grid.amplitudes)
        with tqdm(total=len(grid), initial=len(grid) - total * len(todo), unit="cell", disable=not progress) as bar:
            for rows in backend(todo):
                for row in rows:
                    store.write(row)
                bar.update(total)
        return Sweep(store.read(), store.about)


def _about(grid: Grid) -> dict[str, Any]:
    axes = {name: list(getattr(grid, name)) for name in ("problems", "priors", "samplers", "errors")}
    values = {name: list(getattr(grid, name)) for name in ("amplitudes", "sigmas", "seeds")}
    members = {
        "samplers_settings": {name: repr(sampler) for name, sampler in grid.samplers.items()},
        "problems_settings": {name: settings.of_problem(item, grid.seeds[0]) for name, item in grid.problems.items()},
        "priors_settings": {name: settings.of_prior(item) for name, item in grid.priors.items()},
    }
    return {**axes, **values, "n": grid.n, **members}


Backend = Callable[[list[Group]], Iterator[list[Row]]]


def _backend(grid: Grid, workers: int, cluster: str | None) -> Backend:
    if cluster is not None:
        return lambda groups: _on_cluster(grid, groups, cluster)
    if workers == 1:
        return lambda groups: _here(grid, groups)
    return lambda groups: _in_processes(grid, groups, workers)


def _here(grid: Grid, groups: list[Group]) -> Iterator[list[Row]]:
    for group in groups:
        with _one_thread():
            rows = compute(grid, group)
        yield rows


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are split among threads, so that their number is seen in the last digit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _in_processes(grid: Grid, groups: list[Group], workers: int) -> Iterator[list[Row]]:
    """Groups in whatever order they are ready.

    Those in flight when a worker dies are run again, each alone; one whose worker dies then too is recorded as failed.
    """
    payload, left, failures = cloudpickle.dumps(grid), list(groups), 0
    while left:
        flying: dict[Future[list[Row]], Group] = {}
        started: Future[int] | None = None
        with _pool(payload, workers) as pool, contextlib.suppress(BrokenProcessPool):
            started = pool.submit(os.getpid)
            while left or flying:
                while left and len(flying) < workers:
                    flying[pool.submit(_compute_in_worker, left[0])] = left[0]
                    del left[0]
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    rows = future.result()
                    del flying[future]
                    yield rows
        suspects = list(flying.values())
        if started is None or started.exception():
            left, failures = suspects + left, failures + 1
            if failures == ATTEMPTS:
                raise RuntimeError(
                    f"worker processes died {ATTEMPTS} times before they had started; is there enough memory, and does "
                    'a script call sweep under if __name__ == "__main__":?'
                )
        elif workers > 1:
            yield from _in_processes(grid, suspects, 1)
        else:
            yield from (lost(grid, group) for group in suspects)


@contextlib.contextmanager
def _pool(payload: bytes, workers: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with _environment(WORKER_ENVIRONMENT):
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(payload,))
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_WORKER: dict[str, Grid] = {}


def _start_worker(payload: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that owns the sweep
    threading.Thread(target=_end_with_owner, daemon=True).start()
    torch.set_num_threads(1)
    _WORKER["grid"] = cloudpickle.loads(payload)


def _end_with_owner() -> None:
    """End this process when the one that owns the sweep is gone, however it went."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _compute_in_worker(group: Group) -> list[Row]:
    return compute(_WORKER["grid"], group)


def _on_cluster(grid: Grid, groups: list[Group], address: str) -> Iterator[list[Row]]:
    """On an existing Dask cluster, which runs again what a lost worker had, and gives up what has lost it several."""
    try:
        import dask
        import distributed
    except ImportError:
        raise ImportError('cluster needs Dask: pip install "scorefold[cluster]"') from None
    content, blamed = cloudpickle.dumps(grid), []
    with distributed.Client(address, set_as_default=False) as client:
        # A task, since scattered data are lost with the last worker that holds them. It is large, and sent once.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": len(content) + 10**7}):
            payload = client.submit(bytes, content, pure=False)

        def submit(group: Group) -> Any:
            return client.submit(_compute_on_cluster, payload, group, pure=False, retries=2)

        futures = {submit(group): group for group in groups}
        for future in distributed.as_completed(futures, loop=client.loop):
            try:
                yield future.result()
            except distributed.KilledWorker:
                blamed.append(futures[future])
            future.release()
        for group in blamed:  # each alone, since what waited for the same workers is blamed too
            try:
                yield submit(group).result()
            except distributed.KilledWorker:
                yield lost(grid, group)


def _compute_on_cluster(payload: bytes, group: Group) -> list[Row]:
    with _one_thread():
        return compute(cloudpickle.loads(payload), group)
