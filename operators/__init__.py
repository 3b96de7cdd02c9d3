"""Forward operators of imaging inverse problems, y = A(x) + noise, and their likelihoods."""

from .batch import per_image
from .create import available, create
from .custom import from_functions
from .decoded import decoded
from .likelihood import (
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
    PoissonGaussianLikelihood,
    PoissonLikelihood,
    likelihood,
)
from .linear import check_adjoint, diagonal, is_linear, sqnorm
from .measurement import check_measurement, measured
from .noise import noise_sigma

__all__ = [
    "GaussianLikelihood",
    "LaplaceLikelihood",
    "Likelihood",
    "PoissonGaussianLikelihood",
    "PoissonLikelihood",
    "available",
    "check_adjoint",
    "check_measurement",
    "create",
    "decoded",
    "diagonal",
    "from_functions",
    "is_linear",
    "likelihood",
    "measured",
    "noise_sigma",
    "per_image",
    "sqnorm",
]
