"""Laws of images p(x), known through the score of p smoothed by Gaussian noise."""

from .base import Prior
from .denoiser import Denoiser
from .empirical import Empirical
from .gaussian_mixture import GaussianMixture
from .maximum_entropy import MaximumEntropy
from .perturbed import Perturbed
from .preconditioned import Preconditioned
from .store import available, load, save

__all__ = [
    "Denoiser",
    "Empirical",
    "GaussianMixture",
    "MaximumEntropy",
    "Perturbed",
    "Preconditioned",
    "Prior",
    "available",
    "load",
    "save",
]
