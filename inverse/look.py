"""An early look at a prior in training: what it makes of noise, as a picture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from inverse import images, unconditional
from inverse.files import replacing
from priors import Prior

SIGMA = 0.2
STEPS = 12
GAP, LEAST_SIDE = 2, 64


def write(prior: Prior, clean: Tensor, path: str | Path, seed: int = 0) -> None:
    """A picture of four rows: images, the same with noise of sigma 0.2, denoised, and draws of the prior alone.

    clean: (N, C, h, w) in [0, 1], C 1 or 3. The draws take 23 denoiser calls each.
    """
    device = next(prior.parameters(), clean).device
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    noisy = clean + SIGMA * noise
    with torch.no_grad():
        denoised = prior.denoise(noisy.to(device), SIGMA).cpu()
    draws = unconditional.sample(prior, len(clean), tuple(clean.shape[1:]), seed, STEPS, device=device).cpu()
    path = Path(path)
    with replacing(path) as temporary:
        images.write_png(temporary.with_suffix(".png"), grid([clean, noisy, denoised, draws]))
        temporary.with_suffix(".png").replace(temporary)


def grid(rows: list[Tensor]) -> Tensor:
    """Rows of images (N, C, h, w) as one picture (C, H, W), white between them, small images larger."""
    times = max(1, LEAST_SIDE // min(rows[0].shape[-2:]))
    return torch.cat([torch.cat([_framed(image, times) for image in row], dim=2) for row in rows], dim=1)


def _framed(image: Tensor, times: int) -> Tensor:
    larger = image.repeat_interleave(times, 1).repeat_interleave(times, 2)
    return torch.nn.functional.pad(larger, (GAP, GAP, GAP, GAP), value=1.0)
