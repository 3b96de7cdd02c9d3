"""From a measurement to posterior samples in one call."""

from __future__ import annotations

from pathlib import Path

from deepinv.physics import Physics
from torch import Tensor

import priors
from priors import Prior

from .driver import Sampler
from .posterior import Posterior
from .registry import default
from .registry import sampler as sampler_by_name
from .samples import Samples


def reconstruct(
    y: Tensor,
    physics: Physics,
    prior: str | Path | Prior = "fashion-28",
    sampler: str | Sampler | None = None,
    n: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> Samples:
    """n posterior samples for each measurement in y, with their mean and uncertainty.

    y: (B, ...), as `physics(x)` gives it. prior: a name of `priors.available()`, a file for `priors.load`, a Prior or
    any deepinv denoiser. sampler: a name of `inverse.samplers()` or a Sampler; None: mmps, for priors of images of any
    size mmps-spectral, and dps where the physics is not linear or its noise not Gaussian. Neither y nor physics is
    changed.
    Raises ValueError, naming the argument, for whatever does not fit together.
    """
    if isinstance(prior, str | Path):
        prior = priors.load(prior).to(y.device)
    posterior = Posterior(prior, physics, y)
    if sampler is None:
        sampler = default(posterior)
    if isinstance(sampler, str):
        sampler = sampler_by_name(sampler)
    return sampler.sample(posterior, n, seed=seed, progress=progress)
