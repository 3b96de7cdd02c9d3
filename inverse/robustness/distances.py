"""How far a run has moved: from the run without error (stability), from the exact posterior (validity)."""

from __future__ import annotations

import functools
import math
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from inverse import metrics
from inverse.exact import ExactPosterior
from inverse.exact_manifold import ManifoldPosterior
from priors.manifolds import Submanifold

BINS = {1: 36, 2: 6, 3: 4}
# Cells into which uniform points cut a manifold of any dimension, and uniform draws that tell their volumes.
CELLS, CELL_DRAWS = 36, 20_000


def moved(x: Tensor, reference: Tensor) -> dict[str, float]:
    """Distances of samples x from those of a reference, both (n, B, *image_shape), means over the B measurements.

    distance: sliced Wasserstein (mean of W1 over 100 directions) over the reference's spread, its standard deviation
    along a random direction. shift: |difference of means| over |std|, over all pixels. std_ratio: of the two |std|.
    """
    spread = _spread(reference)
    sliced = metrics.sliced_wasserstein(x, reference, per_measurement=True)
    dimension = math.prod(x.shape[2:])
    shift = _norm(x.mean(0) - reference.mean(0))
    return {
        "distance": float((sliced / (spread / dimension**0.5)).mean()),
        "shift": float((shift / spread).mean()),
        "std_ratio": float((_spread(x) / spread).mean()),
    }


def quality(x: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR (dB) and SSIM of the mean of the samples, and coverage of 90% intervals; means over the measurements."""
    values = {"psnr": float(metrics.psnr(x.mean(0), truth).mean())}
    if truth.ndim == 4 and min(truth.shape[-2:]) >= 11:
        values["ssim"] = float(metrics.ssim(x.mean(0), truth).mean())
    if len(x) > 1:
        values["coverage"] = float(metrics.coverage(x, truth, 0.9).mean())
    return values


class Histogram(NamedTuple):
    """A posterior on a manifold as weights of bins of its chart, (B, bins)."""

    manifold: Submanifold
    weights: Tensor


def histogram(exact: ExactPosterior) -> Histogram | None:
    """Weights of 36 bins (a curve), 6x6 (a surface) or 4x4x4 of an exact posterior on a manifold; None for others."""
    if not isinstance(exact, ManifoldPosterior) or exact.prior.manifold.dim not in BINS:
        return None
    manifold = exact.prior.manifold
    nodes, masses = manifold.coordinates(exact.nodes).cpu(), exact.log_weights.exp().double().cpu()
    weights = torch.zeros(len(masses), BINS[manifold.dim] ** manifold.dim, dtype=torch.float64)
    halves = [_halves(manifold, nodes, k, count) for k, count in enumerate(exact.counts)]
    for chosen in product(*halves):
        index, share = torch.zeros(len(nodes), dtype=torch.long), torch.ones(len(nodes), dtype=torch.float64)
        for bins, part in chosen:
            index, share = index * BINS[manifold.dim] + bins, share * part
        weights.index_add_(1, index, share * masses)
    return Histogram(manifold, weights)


def on_chart(x: Tensor, exact: Histogram) -> float:
    """Total variation over bins of the chart to the exact posterior; x: (n, B, *image_shape)."""
    manifold, n = exact.manifold, len(x)
    points = manifold.project(x.flatten(0, 1).double().cpu())
    index = _bins(manifold, manifold.coordinates(points)).reshape(n, -1)
    drawn = torch.zeros_like(exact.weights)
    drawn.scatter_add_(1, index.T, torch.full(index.T.shape, 1 / n, dtype=torch.float64))
    return float((drawn - exact.weights).abs().sum(1).mean() / 2)


def on_manifold(x: Tensor, manifold: Submanifold) -> dict[str, float]:
    """Root mean square distance to a manifold of any dimension, and how far from uniform the nearest points are on it.

    A reconstruction can be off the manifold or unevenly spread on it: both are told, always. Non-uniformity is the
    total variation between the shares of the samples and of the volume in the cells nearest to each of 36 fixed points.
    """
    flat = x.flatten(0, 1).double().cpu()
    return {
        "off_manifold": float(manifold.distance(flat).square().mean().sqrt()),
        "non_uniformity": _non_uniformity(manifold.project(flat), manifold, len(x)),
    }


def uniform_floor(manifold: Submanifold, n: int, measurements: int) -> float:
    """Non-uniformity of n uniform draws for each measurement."""
    return _non_uniformity(manifold.sample(n * measurements, seed=2), manifold, n)


def _non_uniformity(points: Tensor, manifold: Submanifold, n: int) -> float:
    """Mean over measurements; points of the manifold: (n * B, *image_shape)."""
    anchors, volumes = _cells(manifold)
    cell = _nearest(points, anchors).reshape(n, -1)
    shares = torch.nn.functional.one_hot(cell, CELLS).double().mean(0)
    return float((shares - volumes).abs().sum(1).mean() / 2)


@functools.lru_cache(maxsize=16)
def _cells(manifold: Submanifold) -> tuple[Tensor, Tensor]:
    """The fixed points (CELLS, *image_shape), and the share of the volume that is nearest to each, (CELLS,)."""
    anchors = manifold.sample(CELLS, seed=0)
    cell = _nearest(manifold.sample(CELL_DRAWS, seed=1), anchors)
    return anchors, torch.bincount(cell, minlength=CELLS).double() / CELL_DRAWS


def _nearest(points: Tensor, anchors: Tensor) -> Tensor:
    return torch.cdist(points.flatten(1), anchors.flatten(1)).argmin(1)


def _bins(manifold: Submanifold, u: Tensor) -> Tensor:
    """Index of the bin of coordinates u (K, dim), (K,)."""
    index = torch.zeros(len(u), dtype=torch.long)
    for k in range(manifold.dim):
        index = index * BINS[manifold.dim] + _bin_at(_places(manifold, u, k), manifold, k)
    return index


def _halves(manifold: Submanifold, nodes: Tensor, k: int, count: int) -> list[tuple[Tensor, Tensor]]:
    """Along axis k the bins (K,) on which the cells of nodes (K, dim) lie, and their shares: two on a circle, else one.

    The cell of a node of the trapezoid rule reaches half a step to both sides, often over an edge of a bin.
    """
    place = _places(manifold, nodes, k)
    if not manifold.axes[k].periodic:
        return [(_bin_at(place, manifold, k), torch.ones_like(place))]
    step = BINS[manifold.dim] / count
    end = place + step / 2
    beyond = ((end - end.floor()) / step).clamp(max=1)
    return [(_bin_at(end - step, manifold, k), 1 - beyond), (_bin_at(end, manifold, k), beyond)]


def _places(manifold: Submanifold, u: Tensor, k: int) -> Tensor:
    """Coordinate k of u (K, dim), in bins from its lowest value, (K,)."""
    axis = manifold.axes[k]
    return (u[:, k].cpu() - axis.low) / (axis.high - axis.low) * BINS[manifold.dim]


def _bin_at(place: Tensor, manifold: Submanifold, k: int) -> Tensor:
    """Index of the bin along axis k at each place (K,), (K,): a circle goes on from its start, other axes end."""
    index, bins = place.floor().long(), BINS[manifold.dim]
    return index % bins if manifold.axes[k].periodic else index.clamp(0, bins - 1)


def _spread(x: Tensor) -> Tensor:
    """|std| over all pixels, (B,)."""
    return _norm(x.std(0)).clamp_min(torch.finfo(x.dtype).tiny)


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1)
