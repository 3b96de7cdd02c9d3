"""One group of cells: all amplitudes of an error for one problem, prior, sampler, noise level and seed."""

from __future__ import annotations

import importlib.metadata
import json
import time
from typing import Any

import deepinv
import torch
from torch import Tensor

from inverse.exact import ExactPosterior
from inverse.posterior import Posterior

from . import coupled, distances
from .grid import FORMAT, Grid, Group

# The run that the floor is measured with, and exact draws, have seeds of their own.
FLOOR_SEED, EXACT_SEED = 500_000, 700_000
METRICS = (
    "distance",
    "shift",
    "std_ratio",
    "exact_distance",
    "exact_shift",
    "exact_std_ratio",
    "off_manifold",
    "total_variation",
    "psnr",
    "ssim",
    "coverage",
)
Row = dict[str, Any]


def compute(grid: Grid, group: Group) -> list[Row]:
    """The rows of a group, one for each amplitude. What goes wrong is recorded in its row."""
    start = time.perf_counter()
    try:
        posterior = grid.problem(group)
        runs, reference = _runs(grid, group, posterior)
        columns = _columns(grid, group, posterior, runs, reference)
        settings = _settings(grid, group, posterior)
    except Exception as failure:
        runs, columns, settings = [failure] * len(grid.amplitudes), None, {}
    seconds = (time.perf_counter() - start) / len(grid.amplitudes)
    return [
        _row(grid, group, index, runs[index], columns, {**settings, "seconds": seconds})
        for index in range(len(grid.amplitudes))
    ]


def _runs(grid: Grid, group: Group, posterior: Posterior) -> tuple[list[Tensor | Exception], Tensor]:
    """Samples (n, B, *image_shape) for each amplitude, and for none at all."""
    sampler, error = grid.sampler(group), grid.errors[group.error]
    reference, *runs = coupled.run(sampler, posterior, error, [0.0, *grid.amplitudes], grid.n, group.seed)
    if isinstance(reference, Exception):
        raise reference
    return runs, reference


class _Columns:
    """Distances of a group's runs, with what they share: reference, floors and the exact posterior."""

    def __init__(self, reference: Tensor, again: Tensor, exact: ExactPosterior | None, truth: Tensor | None) -> None:
        n = len(reference)
        self.reference, self.truth = reference, truth
        self.floors = {"floor": distances.moved(again, reference)["distance"]}
        self.draws = self.histogram = None
        if exact is not None:
            self.draws = exact.sample(n, EXACT_SEED).to(reference)
            others = exact.sample(n, EXACT_SEED + 1).to(reference)
            self.floors["exact_floor"] = distances.moved(others, self.draws)["distance"]
            self.histogram = distances.histogram(exact)
            if self.histogram is not None:
                self.floors["total_variation_floor"] = distances.on_manifold(others, self.histogram)["total_variation"]

    def of(self, x: Tensor) -> dict[str, float]:
        values = {**self.floors, **distances.moved(x, self.reference)}
        if self.draws is not None:
            values.update({f"exact_{name}": value for name, value in distances.moved(x, self.draws).items()})
        if self.histogram is not None:
            values.update(distances.on_manifold(x, self.histogram))
        if self.truth is not None:
            values.update(distances.quality(x, self.truth))
        return values


def _columns(
    grid: Grid, group: Group, posterior: Posterior, runs: list[Tensor | Exception], reference: Tensor
) -> _Columns:
    sampler, error = grid.sampler(group), grid.errors[group.error]
    again = coupled.run(sampler, posterior, error, [0.0], grid.n, group.seed + FLOOR_SEED)[0]
    if isinstance(again, Exception):
        raise again
    try:
        exact = posterior.exact()
    except (TypeError, ValueError):  # not known in closed form or by quadrature
        exact = None
    return _Columns(reference, again, exact, grid.truth(group))


def _settings(grid: Grid, group: Group, posterior: Posterior) -> Row:
    sampler = grid.sampler(group).resolve(posterior)
    hyper = {key: value for key, value in vars(sampler).items() if isinstance(value, int | float | str)}
    return {"hyper": json.dumps(hyper), "nfe": sampler.evaluations(posterior)}


def _row(grid: Grid, group: Group, index: int, run: Tensor | Exception, columns: _Columns | None, settings: Row) -> Row:
    failed = isinstance(run, Exception) or columns is None
    values = {} if failed else columns.of(run)
    names = (*METRICS, "floor", "exact_floor", "total_variation_floor")
    return {
        "key": grid.keys(group)[index],
        **vars(group),
        "amplitude": grid.amplitudes[index],
        **{name: values.get(name) for name in names},
        "status": "failed" if failed else "ok",
        "message": " ".join(f"{type(run).__name__}: {run}".split()) if failed else "",
        "n": grid.n,
        "nfe": settings.get("nfe"),
        "seconds": settings["seconds"],
        "hyper": settings.get("hyper", ""),
        "error_settings": json.dumps(_described(grid, group, index), default=str),
        "format": FORMAT,
        **versions(),
    }


def _described(grid: Grid, group: Group, index: int) -> dict[str, Any]:
    return grid.errors[group.error].scaled(grid.amplitudes[index]).describe()


def versions() -> dict[str, str]:
    """What the numbers depend on besides the grid."""
    own = importlib.metadata.version("scorefold")
    return {"scorefold": own, "torch": torch.__version__, "deepinv": deepinv.__version__}
