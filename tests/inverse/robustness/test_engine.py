"""The engine: resumed, killed, in processes or on a cluster, the results are the same; failures and misuse are told."""

import contextlib
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import ClassVar

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import torch

from inverse.robustness import BiasError, GradientError, ScoreError, Sweep, WeightNoise, cells, engine, sweep
from inverse.robustness.grid import FORMAT
from inverse.robustness.store import Store
from priors import Denoiser

TIMES = ["seconds"]


def values(result):
    return result.table.drop(columns=TIMES)


def test_one_row_for_each_cell_and_the_truth_in_it(grid):
    table = sweep(**grid).table
    assert len(table) == 2 * 2 * 3 * 2 and table["key"].is_unique
    assert (table["status"] == "ok").all() and (table["nfe"] == 41).all()
    assert (table[["distance", "shift", "std_ratio", "floor", "psnr", "coverage"]].notna()).all(axis=None)
    # a constant field of size a moves the mean of a Gaussian posterior of precision P by a P^-1 d: linear in a
    bias = table[(table["error"] == "bias") & (table["prior"] == "generic")].groupby("amplitude")["shift"].mean()
    np.testing.assert_allclose(bias.to_numpy() / bias.index.to_numpy(), bias.iloc[0] / 0.1, rtol=1e-3)
    exact = table[table["prior"] == "generic"]
    assert exact["exact_distance"].notna().all() and table[table["prior"] == "geometric"]["exact_distance"].isna().all()


def test_amplitudes_run_together_give_what_each_gives_alone(grid, monkeypatch):
    together = values(sweep(**grid))
    monkeypatch.setattr("inverse.robustness.coupled.ScoreError", type("No field", (), {}))
    alone = values(sweep(**grid))
    assert (together["key"] == alone["key"]).all()
    for name in ("distance", "shift", "std_ratio", "exact_distance"):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-3, atol=1e-5)


def test_a_second_run_computes_nothing_and_global_random_state_is_left_alone(grid, tmp_path, monkeypatch):
    state = torch.get_rng_state()
    first = sweep(**grid, out=tmp_path / "out")
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr("inverse.robustness.engine.compute", None)
    pd.testing.assert_frame_equal(sweep(**grid, out=tmp_path / "out").table, first.table)
    pd.testing.assert_frame_equal(Sweep.load(tmp_path / "out").table, first.table)


def test_interrupted_it_goes_on_where_it_was(grid, tmp_path, monkeypatch):
    whole = values(sweep(**grid))
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return cells.compute(*arguments)

    monkeypatch.setattr("inverse.robustness.engine.compute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(**grid, out=tmp_path / "out")
    assert len(Sweep.load(tmp_path / "out")) == 3 * 3
    resumed = sweep(**grid, out=tmp_path / "out")
    assert len(calls) == 4 + 5
    pd.testing.assert_frame_equal(values(resumed), whole)


def test_two_processes_give_the_same_results(grid, tmp_path):
    pd.testing.assert_frame_equal(values(sweep(**grid, workers=2, out=tmp_path / "out")), values(sweep(**grid)))


@pytest.fixture
def deadly(grid):
    """A grid with one group of cells that kills the process which computes it, between others."""

    class Deadly(ScoreError):
        def __call__(self, x, sigma):
            if multiprocessing.parent_process() is None:
                pytest.exit("a worker's cell was computed in the process of the tests")
            os._exit(1)

        def describe(self):
            return {"name": "Deadly"}

    bias, gradient = grid["errors"].values()
    priors = {"generic": grid["priors"]["generic"]}
    return grid | {"priors": priors, "errors": {"bias": bias, "deadly": Deadly(), "gradient": gradient}, "seeds": [0]}


def check_deadly(result, deadly, message):
    failed = result.table["error"] == "deadly"
    assert (result.table["status"] == np.where(failed, "failed", "ok")).all() and failed.sum() == 3
    assert result.table[failed]["message"].eq(message).all()
    del deadly["errors"]["deadly"]
    columns = [name for name in result.table if name not in TIMES]
    whole = result.table[~failed][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(whole, values(sweep(**deadly)), check_dtype=False)


LOST = "RuntimeError: the worker process died of this group; is there enough memory?"


class Mortal:
    """Stands for a pool of processes: computes what it is given at once, and nothing more after a deadly group."""

    sizes: ClassVar[list[int]] = []

    def __init__(self, payload, workers):
        engine._WORKER["grid"] = cloudpickle.loads(payload)
        self.sizes.append(workers)
        self.alive = True

    def submit(self, function, *arguments):
        future = Future()
        self.alive = self.alive and not (arguments and arguments[0].error == "deadly")
        if self.alive:
            future.set_result(function(*arguments))
        else:
            future.set_exception(BrokenProcessPool())
        return future


def test_a_cell_that_kills_its_worker_is_recorded_and_stops_no_other(deadly, tmp_path, monkeypatch):
    monkeypatch.setattr(Mortal, "sizes", [])
    monkeypatch.setattr(engine, "_pool", lambda *arguments: contextlib.nullcontext(Mortal(*arguments)))
    result = sweep(**deadly, workers=2, out=tmp_path)
    assert Mortal.sizes == [2, 1, 2]  # all of them, that in flight alone, the rest
    again = sweep(**deadly, workers=2, out=tmp_path)
    assert Mortal.sizes == [2, 1, 2]
    pd.testing.assert_frame_equal(again.table, result.table)
    check_deadly(result, deadly, LOST)


@pytest.mark.slow
def test_a_cell_that_kills_its_worker_process_is_recorded_and_stops_no_other(deadly):
    check_deadly(sweep(**deadly, workers=2), deadly, LOST)


def test_workers_that_cannot_start_are_told_what_a_script_may_lack(grid, monkeypatch):
    class Pool:
        def submit(self, *arguments):
            raise BrokenProcessPool

    monkeypatch.setattr("inverse.robustness.engine._pool", lambda *arguments: contextlib.nullcontext(Pool()))
    with pytest.raises(
        RuntimeError,
        match='died 3 times before they had started; .* a script call sweep under if __name__ == "__main__":',
    ):
        sweep(**grid, workers=2)


def announced(problem, folder):
    """The problem as a function of the seed, which leaves a file PID.TIME when a group of cells starts with it."""

    def started(seed):
        with open(os.path.join(folder, f"{os.getpid()}.{time.monotonic_ns()}"), "x"):
            return problem

    return started


def kill_in_flight(cluster, folder, told):
    """Kill a worker of the cluster well inside of its second group of cells, and tell what it was at."""
    nanny = next(iter(cluster.workers.values()))
    told["pid"], end = nanny.pid, time.monotonic() + 120
    while len(list(folder.glob(f"{nanny.pid}.*"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.3)  # until the results of its first group have been fetched from it
    told["tasks"] = [str(task.key) for task in cluster.scheduler.workers[nanny.worker_address].processing]
    told["started"] = len(list(folder.glob(f"{nanny.pid}.*")))
    os.kill(nanny.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_results_though_a_worker_is_killed_with_cells_in_flight(grid, tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    starts, told = tmp_path / "starts", {}
    starts.mkdir()
    grid["samplers"] = type(grid["samplers"])(steps=2000, anneal_steps=10)  # groups of a second or more
    grid["problems"] = {"vector": announced(grid["problems"]["vector"], str(starts))}
    here = values(sweep(**grid))
    for file in starts.iterdir():
        file.unlink()
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        killer = threading.Thread(target=kill_in_flight, args=(cluster, starts, told))
        killer.start()
        there = values(sweep(**grid, cluster=cluster.scheduler_address, out=tmp_path / "out"))
        killer.join()
    # It was at its second group, which was neither finished nor the last thing in the sweep.
    assert told["started"] == 2 and any("_compute_on_cluster" in task for task in told["tasks"])
    by_process = Counter(int(file.name.split(".")[0]) for file in starts.iterdir())
    assert by_process.pop(os.getpid()) == 1  # for the description of the sweep
    assert by_process[told["pid"]] == 2 and len(by_process) >= 2
    # 8 groups, of which that in flight alone was started again: nothing else was lost.
    assert by_process.total() == 8 + 1
    assert len(list((tmp_path / "out" / "rows").iterdir())) == len(there) == 24
    pd.testing.assert_frame_equal(there, here)


@pytest.mark.slow
def test_a_cell_that_kills_its_dask_worker_is_recorded_and_stops_no_other(deadly):
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        result = sweep(**deadly, cluster=cluster.scheduler_address)
    check_deadly(result, deadly, LOST)


SCRIPT = """
import sys, torch
sys.path.insert(0, {tests!r})
import conftest
from inverse import Langevin
from inverse.robustness import sweep
grid = conftest.grid.__wrapped__() if hasattr(conftest.grid, "__wrapped__") else conftest.grid.__pytest_wrapped__.obj()
grid["samplers"] = Langevin(steps=1500, anneal_steps=10)
sweep(**grid, out=sys.argv[1], workers=int(sys.argv[2]))
"""


def test_killed_at_any_moment_it_loses_the_cells_in_flight_alone(grid, tmp_path):
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(SCRIPT.format(tests=os.path.dirname(__file__)))
    process = subprocess.Popen([sys.executable, str(script), str(out), "1"])
    end = time.monotonic() + 120
    while time.monotonic() < end and len(list(out.glob("rows/*.parquet"))) < 4:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = {path.name: path.read_bytes() for path in out.glob("rows/*.parquet")}
    assert 4 <= len(survived) < 24
    grid["samplers"] = type(grid["samplers"])(steps=1500, anneal_steps=10)
    resumed = sweep(**grid, out=out)
    assert len(resumed) == 24
    rows = len([name for name, content in survived.items() if (out / "rows" / name).read_bytes() == content])
    assert rows >= len(survived) - 3  # the rows of a group that was cut off are written again
    pd.testing.assert_frame_equal(values(resumed), values(sweep(**grid)))


class Explosive(ScoreError):
    """Nothing below the amplitude 5, not finite above."""

    def __call__(self, x, sigma):
        return torch.full_like(x, torch.inf if self.amplitude > 5 else 0.0)

    def describe(self):
        return {"name": "Explosive"}


class Absent(ScoreError):
    def __call__(self, x, sigma):
        raise RuntimeError("no such field")

    def describe(self):
        return {}


def test_a_cell_that_fails_is_recorded_and_stops_no_other(grid, monkeypatch):
    monkeypatch.setattr("inverse.robustness.coupled.ScoreError", type("No field", (), {}))
    grid["errors"] = {"explosive": Explosive(), "absent": Absent()}
    result = sweep(**grid)
    table = result.table[result.table["error"] == "explosive"]
    assert (table[table["amplitude"] < 5]["status"] == "ok").all()
    failed = table[table["amplitude"] > 5]
    assert (failed["status"] == "failed").all() and failed["message"].str.contains("left the finite numbers").all()
    absent = result.table[result.table["error"] == "absent"]
    assert (absent["status"] == "failed").all() and absent["message"].eq("RuntimeError: no such field").all()
    found = result.breakdown(0.1).set_index(["error", "prior"])
    assert found.loc[("explosive", "generic"), "critical"] == pytest.approx(10.0)  # a failed cell has moved


def test_weights_that_are_wrong_are_swept_too(grid):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 3))

    class Shrinking(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x, sigma):
            return 0.1 * self.network(x)

    grid |= {"priors": {"network": Denoiser(Shrinking(), (3,))}, "errors": WeightNoise(seed=1)}
    table = sweep(**grid).table
    assert (table["status"] == "ok").all(), table["message"].unique()
    assert table.groupby("amplitude")["distance"].mean().is_monotonic_increasing


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"amplitudes": []}, "amplitudes must not be empty, got a grid without cells"),
        ({"seeds": []}, "seeds must not be empty"),
        ({"amplitudes": [0.0]}, "amplitudes must be finite and above 0, got 0.0"),
        ({"amplitudes": [1.0, 1.0]}, "amplitudes must differ from each other"),
        ({"sigmas": [-1.0]}, "sigmas must be finite and above 0, got -1.0"),
        ({"n": 1}, "n must be at least 2 chains"),
        ({"workers": 0}, "workers must be a whole number of at least 1, got 0"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(grid, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        sweep(**(grid | changes))


def test_a_noise_level_that_the_prior_does_not_know_is_refused(grid):
    grid["priors"] = {"network": Denoiser(torch.nn.Identity(), (3,), sigma_range=(0.2, 1.0))}
    with pytest.raises(ValueError, match="sigmas must be in the range of prior 'network', 0.2 to 1, got 0.1"):
        sweep(**grid)


def test_a_folder_of_something_else_is_refused_and_left_as_it_was(grid, tmp_path):
    out = tmp_path / "out"
    sweep(**grid, out=out)
    with pytest.raises(ValueError, match="one of this sweep, got one of another in"):
        sweep(**(grid | {"sigmas": [0.2]}), out=out)
    manifest = out / "sweep.json"
    about = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(about | {"format": 0}))
    with pytest.raises(ValueError, match=f"out must hold results of format {FORMAT}, got format 0"):
        sweep(**grid, out=out)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match="got other files"):
        sweep(**grid, out=other)
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]


def test_two_runs_on_one_folder_at_once_are_refused(grid, tmp_path):
    sweep(**grid, out=tmp_path)
    digest = json.loads((tmp_path / "sweep.json").read_text())["digest"]
    with Store(tmp_path, digest, {}).opened(), pytest.raises(ValueError, match="out must not be in use by another run"):
        sweep(**grid, out=tmp_path)


def test_a_row_that_cannot_be_read_is_moved_aside_and_computed_again(grid, tmp_path):
    first = sweep(**grid, out=tmp_path)
    half, foreign = sorted((tmp_path / "rows").glob("*.parquet"))[:2]
    half.write_bytes(half.read_bytes()[:100])
    foreign.write_bytes(b"nothing of ours")
    with pytest.warns(UserWarning, match="cannot be read"):
        again = sweep(**grid, out=tmp_path)
    pd.testing.assert_frame_equal(values(again), values(first))
    assert {path.name for path in (tmp_path / "corrupt").iterdir()} == {half.name, foreign.name}


def test_failed_cells_are_computed_again_where_that_is_asked(grid, tmp_path, monkeypatch):
    grid |= {"priors": {"generic": grid["priors"]["generic"]}, "errors": {"bias": BiasError(), "gone": GradientError()}}
    unit = GradientError.unit
    monkeypatch.setattr(GradientError, "unit", lambda self, x: torch.full_like(x, math.nan))
    broken = sweep(**grid, out=tmp_path).table.set_index("key")
    assert broken.groupby("error")["status"].unique().map(list).to_dict() == {"bias": ["ok"], "gone": ["failed"]}
    monkeypatch.setattr(GradientError, "unit", unit)
    assert (sweep(**grid, out=tmp_path).table["status"] == "failed").sum() == 6
    again = sweep(**grid, out=tmp_path, retry_failed=True).table.set_index("key")
    assert (again["status"] == "ok").all() and len(again) == len(broken) == 12
    # the other groups are not run again: their seconds would be others
    kept = broken[broken["error"] == "bias"]
    assert again.loc[kept.index, "seconds"].tolist() == kept["seconds"].tolist()
