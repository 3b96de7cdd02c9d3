"""From a measurement to posterior samples in one call."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import torch
from deepinv.physics import GaussianNoise, Physics
from deepinv.utils import TensorList
from torch import Tensor

import priors
from operators.measurement import measured
from priors import Preconditioned, Prior, inference
from priors.store import VALUE_RANGE

from .driver import Sampler
from .posterior import Posterior
from .registry import default, samplers
from .registry import sampler as sampler_by_name
from .samples import Samples

# Root mean squares above it are told. That of an image in [0, 1] is at most 1, that of one in 0..255 mostly above 30.
UNUSUAL = 4.0
# The norm of m standard normal numbers is above m^1/2 + t with a probability of at most exp(-t^2 / 2), here 2e-8.
DEVIATIONS = 6.0


def reconstruct(
    y: Tensor | TensorList,
    physics: Physics,
    prior: str | Path | Prior = "fashion-28",
    sampler: str | Sampler | None = None,
    n: int = 16,
    seed: int = 0,
    progress: bool = False,
    antithetic: bool = False,
) -> Samples:
    """n posterior samples for each measurement in y, with their mean and uncertainty.

    y: (B, ...), as `physics(x)` gives it. prior: a name of `priors.available()`, a file for `priors.load`, a Prior or
    any deepinv denoiser; the network of a name or file is run as `priors.inference.prepare` does by default, for images
    of any size in 8 bits where the processor is fast at it. sampler: a name of `inverse.samplers()` or a Sampler; None:
    mmps, for priors of images of any size mmps-spectral, and dps where the physics is not linear or its noise not
    Gaussian. antithetic: pairs of samples from opposite noise, for a better mean of few (`Sampler.sample`). Neither y
    nor physics is changed. Images are in [0, 1] for the priors of `priors.available()` and files, and y in units that
    go with that.
    Raises ValueError, naming the argument, for whatever does not fit together. Warns (UserWarning) where such a prior
    is given a y that no image in [0, 1] can have caused, as one of an image in 0..255.
    """
    if not isinstance(y, Tensor | TensorList):
        raise TypeError(f"y must be a torch tensor (B, *measurement_shape), got {type(y).__name__}")
    with torch.inference_mode(False):  # of the caller: weights made there could not be differentiated through
        if isinstance(prior, str | Path):
            posterior = _with_named(prior, physics, y)
        else:
            posterior = Posterior(prior, physics, y)
    _warn_of_scale(posterior)
    if sampler is None:
        sampler = default(posterior)
    if isinstance(sampler, str):
        sampler = sampler_by_name(sampler)
    if isinstance(sampler, type) or not hasattr(sampler, "sample"):
        came = f"the class {sampler.__name__}" if isinstance(sampler, type) else type(sampler).__name__
        raise TypeError(f"sampler must be one of {', '.join(samplers())} or a Sampler such as MMPS(), got {came}")
    return sampler.sample(posterior, n, seed=seed, progress=progress, antithetic=antithetic)


def _with_named(name: str | Path, physics: Physics, y: Tensor | TensorList) -> Posterior:
    """The problem with a prior by name or file; where that is for images of another size, says which is for any."""
    first = y if isinstance(y, Tensor) else y[0]
    prior = inference.prepare(priors.load(name).to(first.device))
    try:
        return Posterior(prior, physics, y)
    except ValueError as error:
        shape = tuple(getattr(physics, "img_size", None) or first.shape[1:])
        if prior.image_shape in (None, shape) or len(shape) != 3 or shape[0] not in (1, 3):
            raise
        raise ValueError(
            f'{error}; {name} is for {prior.image_shape} alone, prior="photo" for grey or colour images of any size'
        ) from None


def _warn_of_scale(posterior: Posterior) -> None:
    """UserWarning where y belongs to images far outside of [0, 1], which the prior's data were in."""
    learned = [module for module in posterior.prior.modules() if isinstance(module, Preconditioned)]
    known = any(prior.about.get("value_range") == VALUE_RANGE for prior in learned)
    gaussian = isinstance(posterior.physics.noise_model, GaussianNoise)
    if not (known and gaussian and posterior.linear):
        return
    size = _least_size(posterior)
    if size > UNUSUAL:
        warnings.warn(
            f"y is of images whose root mean square is at least {size:.3g}, and the prior knows images in "
            f"{VALUE_RANGE}: if theirs are in 0..255, divide y and the noise level by 255",
            UserWarning,
            stacklevel=3,
        )


@torch.no_grad()
def _least_size(posterior: Posterior) -> float:
    """Lower bound of the images' root mean square, largest over the measurements; linear physics, Gaussian noise s.

    y = A x + e has |y|^2 = <x, A^T y> + <e, y> <= |x| |A^T y| + |e| |y|, where |e| <= s (m^1/2 + DEVIATIONS).
    """
    inside = measured(posterior.physics)
    y = posterior.y if inside is None else posterior.y * inside
    noise = posterior.noise_variance.reshape(-1).sqrt() * (math.sqrt(y[0].numel()) + DEVIATIONS)
    seen, back = (torch.linalg.vector_norm(v.flatten(1), dim=1) for v in (y, posterior.physics.A_adjoint(y)))
    sizes = seen * (seen - noise).clamp_min(0) / back.clamp_min(torch.finfo(back.dtype).tiny)
    return float(sizes.max()) / math.sqrt(math.prod(posterior.image_shape))
