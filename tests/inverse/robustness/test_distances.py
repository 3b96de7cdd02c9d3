"""Distances on a manifold: the bins of an exact posterior hold the masses that its density has there."""

import math

import numpy as np
import torch
from scipy.stats import vonmises

import operators
from inverse import Posterior
from inverse.robustness.distances import CELLS, histogram, on_manifold, uniform_floor
from priors import Manifold
from priors.manifolds import Circle, Embedded, Product, Sphere


def masses(y: list[float], s: float, bins: int) -> np.ndarray:
    """Of the angle of x, uniform on the circle, given y = x + s noise: von Mises about y, concentration |y| / s^2."""
    law = vonmises(math.hypot(*y) / s**2, loc=math.atan2(y[1], y[0]) % (2 * math.pi))
    return np.diff(law.cdf(np.linspace(0, 2 * math.pi, bins + 1)))


def test_bins_of_a_posterior_on_a_torus_hold_its_mass():
    y, s = torch.tensor([[1.0, 0.6, 0.2, -0.9]], dtype=torch.float64), 0.7
    prior = Manifold(Product(Circle(), Circle()))
    found = histogram(Posterior(prior, operators.create("denoising", (4,), noise=s), y).exact()).weights
    expected = np.outer(masses(y[0, :2].tolist(), s, 6), masses(y[0, 2:].tolist(), s, 6))
    # Nodes given as a whole to the bin in which they lie make this 0.015.
    assert np.abs(found.numpy().reshape(6, 6) - expected).sum() / 2 < 0.002


def test_bins_of_a_posterior_on_the_circle_hold_its_mass():
    y, s = torch.tensor([[1.0, 0.6], [-0.3, -1.4]], dtype=torch.float64), 0.7
    found = histogram(Posterior(Manifold(Circle()), operators.create("denoising", (2,), noise=s), y).exact()).weights
    for row, measured in zip(found, y.tolist(), strict=True):
        assert np.abs(row.numpy() - masses(measured, s, 36)).sum() / 2 < 0.002


def test_non_uniformity_of_a_half_of_the_circle():
    """Cells end half-way between neighbouring points; each holds its part of the half circle twice too often."""
    circle = Circle()
    anchors = circle.coordinates(circle.sample(CELLS, seed=0))[:, 0].sort().values.numpy()
    ends = (anchors + np.append(anchors[1:], anchors[0] + 2 * math.pi)) / 2
    starts, ends = np.append(ends[-1] - 2 * math.pi, ends[:-1]), ends
    inside = sum(
        np.clip(np.minimum(ends, high) - np.maximum(starts, low), 0, None)
        for low, high in ((0.0, math.pi), (2 * math.pi, 3 * math.pi))
    )
    expected = np.abs(inside / math.pi - (ends - starts) / (2 * math.pi)).sum() / 2
    u = math.pi * (torch.arange(20_000, dtype=torch.float64)[:, None] + 0.5) / 20_000
    found = on_manifold(1.5 * circle.point(u)[:, None], circle)
    # 20,000 draws tell the volumes of 36 cells, in total variation, to 0.02 at most
    assert abs(found["non_uniformity"] - expected) < 0.02
    assert abs(found["off_manifold"] - 0.5) < 1e-9


def test_non_uniformity_on_a_sphere_that_has_no_bins():
    sphere = Embedded(Sphere(5), 12, seed=0)
    even = on_manifold(sphere.sample(4000, seed=5).reshape(2000, 2, 12), sphere)
    assert abs(even["non_uniformity"] - uniform_floor(sphere, 2000, 2)) < 0.02
    one = sphere.sample(1, seed=3).expand(50, 1, 12)
    assert on_manifold(one, sphere)["non_uniformity"] > 0.9
