"""deepinv's posterior samplers on the same denoiser, physics and measurement, with their own defaults.

They draw one sample per item of the batch, so n draws are n copies of the measurements. Those that work in [-1, 1]
inside are given a denoiser of [0, 1] images, as everyone gives them one.
"""

from __future__ import annotations

from collections.abc import Callable

import deepinv
import numpy as np
import torch
from torch import Tensor, nn

from inverse import Posterior

Sampler = Callable[[Posterior, int, int], Tensor]


class Guarded(nn.Module):
    """A prior's denoiser that returns its input at sigma = 0, where deepinv's schedules end, and counts its calls."""

    def __init__(self, prior: nn.Module) -> None:
        super().__init__()
        self.prior, self.calls = prior, 0

    def forward(self, x: Tensor, sigma: float | Tensor, **_: object) -> Tensor:
        self.calls += 1
        sigma = torch.as_tensor(sigma, dtype=x.dtype)
        return x if bool((sigma <= 0).all()) else self.prior(x, sigma)


def dps(posterior: Posterior, n: int, seed: int, steps: int = 1000, **options: object) -> Tensor:
    """deepinv.sampling.DPS."""
    denoiser = Guarded(posterior.prior)
    generator = torch.Generator().manual_seed(seed)
    model = deepinv.sampling.DPS(denoiser, num_steps=steps, rng=generator, **options)
    return _draw(lambda y: model(y, posterior.physics, seed=seed), posterior, n)


def ald(posterior: Posterior, n: int, seed: int, steps: int = 1000) -> Tensor:
    """deepinv's annealed Langevin guidance (Jalal et al. 2021) in its variance-exploding diffusion, by Euler steps."""
    timesteps = torch.linspace(1, 0.001, steps + 1, dtype=torch.float64)  # the last of them calls no denoiser
    solver = deepinv.sampling.EulerSolver(timesteps=timesteps, rng=torch.Generator().manual_seed(seed))
    diffusion = deepinv.sampling.VarianceExplodingDiffusion()
    fidelity = deepinv.sampling.ALDDataFidelity()
    model = deepinv.sampling.PosteriorDiffusion(fidelity, Guarded(posterior.prior), diffusion, solver)
    return _draw(lambda y: model(y, posterior.physics, seed=seed), posterior, n)


def diffpir(posterior: Posterior, n: int, seed: int, steps: int = 100, **options: object) -> Tensor:
    """deepinv.sampling.DiffPIR, told the true noise level."""
    sigma = float(posterior.likelihood.sigma)
    fidelity = deepinv.optim.L2()
    model = deepinv.sampling.DiffPIR(Guarded(posterior.prior), fidelity, sigma=sigma, max_iter=steps, **options)
    return _draw(lambda y: model(y, posterior.physics, seed=seed), posterior, n)


def ddrm(posterior: Posterior, n: int, seed: int, steps: int = 100) -> Tensor:
    """deepinv.sampling.DDRM; for decomposable physics only. It changes y in place, hence the copy."""
    model = deepinv.sampling.DDRM(Guarded(posterior.prior), sigmas=np.linspace(1, 0, steps))
    return _draw(lambda y: model(y.clone(), posterior.physics, seed=seed), posterior, n)


def _draw(model: Callable[[Tensor], Tensor], posterior: Posterior, n: int) -> Tensor:
    y = posterior.y.repeat(n, *[1] * (posterior.y.ndim - 1))
    state = torch.get_rng_state()
    try:
        x = model(y).detach()
    finally:
        torch.set_rng_state(state)
    return x.reshape(n, len(posterior), *posterior.image_shape).float()
