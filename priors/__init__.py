"""Laws of images p(x), known through the score of p smoothed by Gaussian noise."""

from .base import Prior
from .denoiser import Denoiser
from .empirical import Empirical
from .gaussian_mixture import GaussianMixture

__all__ = ["Denoiser", "Empirical", "GaussianMixture", "Prior"]
