"""Laws of images p(x), known through the score of p smoothed by Gaussian noise."""

from . import manifolds
from .base import Prior
from .check import check_score
from .denoiser import Denoiser
from .empirical import Empirical
from .gaussian_mixture import GaussianMixture
from .manifold import Manifold
from .maximum_entropy import MaximumEntropy
from .perturbed import Perturbed
from .preconditioned import Preconditioned
from .store import available, load

__all__ = [
    "Denoiser",
    "Empirical",
    "GaussianMixture",
    "Manifold",
    "MaximumEntropy",
    "Perturbed",
    "Preconditioned",
    "Prior",
    "available",
    "check_score",
    "load",
    "manifolds",
]
