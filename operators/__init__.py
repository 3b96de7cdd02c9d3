"""Forward operators of imaging inverse problems, y = A(x) + noise, and their likelihoods."""

from .batch import per_image
from .create import available, create
from .custom import check_own_adjoint, from_functions
from .decoded import decoded
from .flattened import as_real, flattened
from .likelihood import (
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
    PoissonGaussianLikelihood,
    PoissonLikelihood,
    likelihood,
)
from .linear import check_adjoint, diagonal, is_linear, sqnorm, with_image_shape
from .measurement import check_measurement, measured
from .noise import noise_sigma

__all__ = [
    "GaussianLikelihood",
    "LaplaceLikelihood",
    "Likelihood",
    "PoissonGaussianLikelihood",
    "PoissonLikelihood",
    "as_real",
    "available",
    "check_adjoint",
    "check_measurement",
    "check_own_adjoint",
    "create",
    "decoded",
    "diagonal",
    "flattened",
    "from_functions",
    "is_linear",
    "likelihood",
    "measured",
    "noise_sigma",
    "per_image",
    "sqnorm",
    "with_image_shape",
]
