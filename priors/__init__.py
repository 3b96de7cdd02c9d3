"""Laws of images p(x), known through the score of p smoothed by Gaussian noise."""

from . import inference, manifolds
from .base import Prior
from .check import check_score
from .classical import BM3D, Median, TotalVariation, Wavelet
from .denoiser import Denoiser
from .diffusers import Diffusers
from .empirical import Empirical
from .gaussian_mixture import GaussianMixture
from .guided import Guided
from .manifold import Manifold
from .maximum_entropy import MaximumEntropy
from .parametrised import Parametrised
from .perturbed import Perturbed
from .preconditioned import Preconditioned
from .store import available, load
from .tiled import Tiled

__all__ = [
    "BM3D",
    "Denoiser",
    "Diffusers",
    "Empirical",
    "GaussianMixture",
    "Guided",
    "Manifold",
    "MaximumEntropy",
    "Median",
    "Parametrised",
    "Perturbed",
    "Preconditioned",
    "Prior",
    "Tiled",
    "TotalVariation",
    "Wavelet",
    "available",
    "check_score",
    "inference",
    "load",
    "manifolds",
]
