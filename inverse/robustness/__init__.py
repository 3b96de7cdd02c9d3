"""How wrong a score may be before a reconstruction breaks: score errors, sweeps of them, and what sweeps say."""

from .audit import Audit, audit
from .base import PriorError, ScoreError
from .engine import sweep
from .errors import BiasError, DensityError, GradientError, NormalError, SolenoidalError, TangentialError
from .practical import EarlyStopped, FewData, Quantised, WeightNoise
from .problem import Problem
from .results import Sweep
from .tuning import Tuned

__all__ = [
    "Audit",
    "BiasError",
    "DensityError",
    "EarlyStopped",
    "FewData",
    "GradientError",
    "NormalError",
    "PriorError",
    "Problem",
    "Quantised",
    "ScoreError",
    "SolenoidalError",
    "Sweep",
    "TangentialError",
    "Tuned",
    "WeightNoise",
    "audit",
    "sweep",
]
