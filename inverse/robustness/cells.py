"""One group of cells: all amplitudes of an error for one problem, prior, sampler, noise level and seed."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import time
from typing import Any
from weakref import WeakKeyDictionary

import deepinv
import torch
from torch import Tensor

from inverse.driver import Sampler
from inverse.exact import ExactPosterior
from inverse.posterior import Posterior, unwrapped
from priors import Manifold
from priors.manifolds import Submanifold

from . import coupled, distances
from .grid import FORMAT, Grid, Group, at_level
from .tuning import Tuned

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
    "non_uniformity",
    "total_variation",
    "psnr",
    "ssim",
    "coverage",
)
Row = dict[str, Any]
# What was tuned does not depend on the seed of a group, so that groups which differ in it alone share it.
_TUNED: WeakKeyDictionary[Grid, dict[Group, list[Sampler]]] = WeakKeyDictionary()


def compute(grid: Grid, group: Group) -> list[Row]:
    """The rows of a group, one for each amplitude. What goes wrong is recorded in its row."""
    start = time.perf_counter()
    try:
        posterior, truth = grid.problem(group)
        clean, samplers = _samplers(grid, group)
        reference, runs = _runs(grid, group, posterior, clean, samplers)
        columns = _columns(grid, group, posterior, truth, clean, reference)
        settings = [_settings(sampler, posterior) for sampler in samplers]
    except Exception as failure:
        runs, columns, settings = [failure] * len(grid.amplitudes), None, [{}] * len(grid.amplitudes)
    seconds = (time.perf_counter() - start) / len(grid.amplitudes)
    return [
        _row(grid, group, index, runs[index], columns, {**settings[index], "seconds": seconds})
        for index in range(len(grid.amplitudes))
    ]


def lost(grid: Grid, group: Group) -> list[Row]:
    """The rows of a group that killed its worker process."""
    failure = RuntimeError("the worker process died of this group; is there enough memory?")
    return [_row(grid, group, index, failure, None, {"seconds": None}) for index in range(len(grid.amplitudes))]


def _samplers(grid: Grid, group: Group) -> tuple[Sampler, list[Sampler]]:
    """The sampler of the run without error, and that of each amplitude: the same one, unless it is tuned for each."""
    given = grid.samplers[group.sampler]
    chosen = _tuned(grid, group, given) if isinstance(given, Tuned) else [given]
    clean, *each = [at_level(sampler, group.sigma) for sampler in chosen]
    return clean, each or [clean] * len(grid.amplitudes)


def _tuned(grid: Grid, group: Group, given: Tuned) -> list[Sampler]:
    """What is chosen without error and, where it is tuned for each, for every amplitude."""
    known, place = _TUNED.setdefault(grid, {}), dataclasses.replace(group, seed=0)
    if place not in known:
        known[place] = given.choose(
            lambda sampler: at_level(sampler, group.sigma),
            lambda seed: grid.problem(group, seed),
            grid.errors[group.error],
            [0.0, *grid.amplitudes] if given.each_error else [0.0],
            grid.n,
        )
    return known[place]


def _runs(
    grid: Grid, group: Group, posterior: Posterior, clean: Sampler, samplers: list[Sampler]
) -> tuple[Tensor, list[Tensor | Exception]]:
    """Samples (n, B, *image_shape) without error, and for each amplitude."""
    error, n, seed = grid.errors[group.error], grid.n, group.seed
    runs: dict[float, Tensor | Exception] = {}
    for sampler in dict.fromkeys([clean, *samplers]):  # each once, that of the run without error first
        together = [a for a, chosen in zip(grid.amplitudes, samplers, strict=True) if chosen == sampler]
        together = [0.0, *together] if sampler == clean else together
        runs.update(zip(together, coupled.run(sampler, posterior, error, together, n, seed), strict=True))
    reference = runs[0.0]
    if isinstance(reference, Exception):
        raise reference
    return reference, [runs[amplitude] for amplitude in grid.amplitudes]


class _Columns:
    """Distances of a group's runs, with what they share: reference, floors and the exact posterior."""

    def __init__(
        self,
        reference: Tensor,
        again: Tensor,
        exact: ExactPosterior | None,
        manifold: Submanifold | None,
        truth: Tensor | None,
    ) -> None:
        n, measurements = reference.shape[:2]
        self.reference, self.manifold, self.truth = reference, manifold, truth
        self.floors = {"floor": distances.moved(again, reference)["distance"]}
        self.draws = self.histogram = None
        if exact is not None:
            self.draws = exact.sample(n, EXACT_SEED).to(reference)
            others = exact.sample(n, EXACT_SEED + 1).to(reference)
            self.floors["exact_floor"] = distances.moved(others, self.draws)["distance"]
            self.histogram = distances.histogram(exact)
            if self.histogram is not None:
                self.floors["total_variation_floor"] = distances.on_chart(others, self.histogram)
        if manifold is not None:
            self.floors["non_uniformity_floor"] = distances.uniform_floor(manifold, n, measurements)

    def of(self, x: Tensor) -> dict[str, float]:
        values = {**self.floors, **distances.moved(x, self.reference)}
        if self.draws is not None:
            values.update({f"exact_{name}": value for name, value in distances.moved(x, self.draws).items()})
        if self.histogram is not None:
            values["total_variation"] = distances.on_chart(x, self.histogram)
        if self.manifold is not None:
            values.update(distances.on_manifold(x, self.manifold))
        if self.truth is not None:
            values.update(distances.quality(x, self.truth))
        return values


def _columns(
    grid: Grid, group: Group, posterior: Posterior, truth: Tensor | None, sampler: Sampler, reference: Tensor
) -> _Columns:
    again = coupled.run(sampler, posterior, grid.errors[group.error], [0.0], grid.n, group.seed + FLOOR_SEED)[0]
    if isinstance(again, Exception):
        raise again
    try:
        exact = posterior.exact()
    except (TypeError, ValueError):  # not known in closed form or by quadrature
        exact = None
    prior = unwrapped(posterior.prior)
    manifold = prior.manifold if isinstance(prior, Manifold) else None
    return _Columns(reference, again, exact, manifold, truth)


def _settings(sampler: Sampler, posterior: Posterior) -> Row:
    resolved = sampler.resolve(posterior)
    hyper = {key: value for key, value in vars(resolved).items() if isinstance(value, int | float | str)}
    return {"hyper": json.dumps(hyper), "nfe": resolved.evaluations(posterior)}


def _row(grid: Grid, group: Group, index: int, run: Tensor | Exception, columns: _Columns | None, settings: Row) -> Row:
    failed = isinstance(run, Exception) or columns is None
    values = {} if failed else columns.of(run)
    names = (*METRICS, "floor", "exact_floor", "total_variation_floor", "non_uniformity_floor")
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
