"""Samples of a prior itself, without any measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from tqdm import trange

from inverse.schedule import karras
from priors import Prior


def sample(
    prior: Prior,
    n: int,
    image_shape: tuple[int, ...] | None = None,
    seed: int = 0,
    steps: int = 40,
    chunk_size: int = 64,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Tensor:
    """n draws of a prior through its denoiser alone, (n, *image_shape).

    The probability flow dx/dsigma = (x - D(x, sigma)) / sigma from sigma_max to sigma_min in `steps` levels by Heun's
    method (Karras et al. 2022, Algorithm 1), then the denoised image: 2 steps - 1 denoiser calls. Levels run over the
    prior's sigma_range, where it is unbounded from 80 down to 0.002. chunk_size: images computed at once, which does
    not change them. Raises ValueError for n, steps or chunk_size below what is possible and without an image shape.
    """
    for name, value, least in (("n", n, 1), ("steps", steps, 2), ("chunk_size", chunk_size, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    shape = prior.image_shape or image_shape
    if shape is None:
        raise ValueError("image_shape is needed, because this prior is for images of any shape; got None")
    low, high = prior.sigma_range
    levels = karras(high if math.isfinite(high) else 80.0, low if low > 0 else 0.002, steps)
    noise = torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))
    chunks = [levels[0] * part.to(device) for part in noise.split(chunk_size)]
    bar = trange(len(chunks) * steps, desc="sample", unit="step", disable=not progress)
    with bar, torch.no_grad():
        return torch.cat([_flow(prior, x, levels, bar.update) for x in chunks])


def _flow(prior: Prior, x: Tensor, levels: Sequence[float], count: Callable[[], object]) -> Tensor:
    for sigma, following in pairwise(levels):
        slope = -prior.displacement(x, sigma) / sigma
        ahead = x + (following - sigma) * slope
        correction = -prior.displacement(ahead, following) / following
        x = x + (following - sigma) * (slope + correction) / 2
        count()
    count()
    return prior.denoise(x, levels[-1])
