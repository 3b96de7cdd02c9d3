"""How far a run has moved: from the run without error (stability), from the exact posterior (validity)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from inverse import metrics
from inverse.exact import ExactPosterior
from inverse.exact_manifold import ManifoldPosterior
from priors.manifolds import Submanifold

BINS = {1: 36, 2: 6, 3: 4}


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
    index = _bins(manifold, manifold.coordinates(exact.nodes))
    weights = torch.zeros(len(exact.log_weights), BINS[manifold.dim] ** manifold.dim, dtype=torch.float64)
    weights.index_add_(1, index, exact.log_weights.exp().double().cpu())
    return Histogram(manifold, weights)


def on_manifold(x: Tensor, exact: Histogram) -> dict[str, float]:
    """Root mean square distance to the manifold, and total variation over bins of the chart to the exact posterior.

    A reconstruction can be off the manifold or wrongly spread on it: both are told, always.
    """
    manifold, n = exact.manifold, len(x)
    flat = x.flatten(0, 1).double().cpu()
    index = _bins(manifold, manifold.coordinates(manifold.project(flat))).reshape(n, -1)
    drawn = torch.zeros_like(exact.weights)
    drawn.scatter_add_(1, index.T, torch.full(index.T.shape, 1 / n, dtype=torch.float64))
    return {
        "off_manifold": float(manifold.distance(flat).square().mean().sqrt()),
        "total_variation": float((drawn - exact.weights).abs().sum(1).mean() / 2),
    }


def _bins(manifold: Submanifold, u: Tensor) -> Tensor:
    """Index of the bin of coordinates u (K, dim), (K,)."""
    per_axis = BINS[manifold.dim]
    index = torch.zeros(len(u), dtype=torch.long)
    for k, axis in enumerate(manifold.axes):
        part = ((u[:, k].cpu() - axis.low) / (axis.high - axis.low) * per_axis).floor().long()
        index = index * per_axis + part.clamp(0, per_axis - 1)
    return index


def _spread(x: Tensor) -> Tensor:
    """|std| over all pixels, (B,)."""
    return _norm(x.std(0)).clamp_min(torch.finfo(x.dtype).tiny)


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1)
