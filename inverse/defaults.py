"""Hyper-parameters chosen from the problem: from the likelihood's curvature and the prior's extent and stiffness."""

from __future__ import annotations

import torch

from .posterior import Posterior


def noise_in_image(posterior: Posterior) -> float:
    """s / |A|: the noise as it looks in the image along the direction that the physics sees best."""
    return float(torch.as_tensor(posterior.curvature).max()) ** -0.5


def sigma_max(posterior: Posterior, radii: float = 7) -> float:
    """Largest level: some radii of the prior, at most its own; at 7, X + sigma Z is Gaussian to within KL 0.01."""
    return min(posterior.prior.sigma_range[1], radii * posterior.prior.radius(posterior.image_shape))


def sigma_min(posterior: Posterior, fraction: float) -> float:
    """Smallest level: a fraction of the noise in the image, at most 5% of the prior's spread, at least its own."""
    return max(posterior.prior.sigma_range[0], min(fraction * noise_in_image(posterior), 0.05 * posterior.spread))
