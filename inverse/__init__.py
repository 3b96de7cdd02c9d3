"""Posterior samples of imaging inverse problems: samplers, exact references, diagnostics and the command."""

from typing import Any

from . import metrics
from .annealed_langevin import AnnealedLangevin
from .dps import DPS
from .driver import InvalidStateError, Sampler
from .exact import ExactPosterior
from .langevin import Langevin
from .mmps import MMPS
from .posterior import Posterior
from .predictor_corrector import PredictorCorrector
from .reconstruct import reconstruct
from .registry import sampler, samplers
from .samples import Samples
from .spectral import SpectralMMPS

__all__ = [
    "DPS",
    "MMPS",
    "AnnealedLangevin",
    "ExactPosterior",
    "InvalidStateError",
    "Langevin",
    "Posterior",
    "PredictorCorrector",
    "Sampler",
    "Samples",
    "SpectralMMPS",
    "metrics",
    "reconstruct",
    "robustness",
    "sampler",
    "samplers",
]


def __getattr__(name: str) -> Any:
    # tables and columnar files take a second to import, and few programs need them
    if name == "robustness":
        import inverse.robustness

        return inverse.robustness
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
