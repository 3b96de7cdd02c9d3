"""Forward operators of imaging inverse problems, y = A(x) + noise, and their likelihoods."""

from .batch import per_image
from .create import available, create
from .likelihood import GaussianLikelihood, Likelihood, likelihood
from .linear import check_adjoint, is_linear, sqnorm
from .measurement import check_measurement, measured
from .noise import noise_sigma

__all__ = [
    "GaussianLikelihood",
    "Likelihood",
    "available",
    "check_adjoint",
    "check_measurement",
    "create",
    "is_linear",
    "likelihood",
    "measured",
    "noise_sigma",
    "per_image",
    "sqnorm",
]
