"""Distances on a manifold: the bins of an exact posterior hold the masses that its density has there."""

import math

import numpy as np
import torch
from scipy.stats import vonmises

import operators
from inverse import Posterior
from inverse.robustness.distances import histogram
from priors import Manifold
from priors.manifolds import Circle, Product


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
