"""Samplers by name."""

from __future__ import annotations

import dataclasses
import difflib

import operators

from .annealed_langevin import AnnealedLangevin
from .dps import DPS
from .driver import Sampler
from .langevin import Langevin
from .mmps import MMPS
from .posterior import Posterior
from .spectral import SpectralMMPS

_SAMPLERS: dict[str, type[Sampler]] = {cls.name: cls for cls in (AnnealedLangevin, DPS, Langevin, MMPS, SpectralMMPS)}


def samplers() -> list[str]:
    """Names of all samplers, sorted."""
    return sorted(_SAMPLERS)


def default(posterior: Posterior) -> str:
    """Name of the sampler for a problem: moment matching, for images of any size in frequency; dps where it cannot."""
    gaussian = isinstance(posterior.likelihood, operators.GaussianLikelihood)
    if not (gaussian and posterior.linear):
        return DPS.name
    of_any_size = posterior.prior.image_shape is None and len(posterior.image_shape) == 3
    return SpectralMMPS.name if of_any_size else MMPS.name


def sampler(name: str, **hyper: object) -> Sampler:
    """The sampler of that name with these hyper-parameters, the others chosen from the problem.

    Raises ValueError for an unknown name or hyper-parameter (with the nearest known one) or a value out of range.
    """
    if name not in _SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(samplers())}, got {name!r}{_nearest(name, samplers())}")
    known = [field.name for field in dataclasses.fields(_SAMPLERS[name])]
    for key in hyper:
        if key not in known:
            raise ValueError(f"{name} takes {', '.join(known)}, got {key!r}{_nearest(key, known)}")
    return _SAMPLERS[name](**hyper)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(str(name), known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
