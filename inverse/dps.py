"""Diffusion posterior sampling: the likelihood of the denoised image guides the reverse diffusion.

Chung, Kim, McCann, Klasky, Ye, "Diffusion posterior sampling for general noisy inverse problems", ICLR 2023,
Algorithm 1, written for the variance-exploding process. With D = D(x, sigma) and levels sigma > sigma',

    x' = k x + (1 - k) D - zeta grad_x v(D(x, sigma)) + sigma' sqrt(1 - k) z,     k = (sigma'/sigma)^2,

v = -log p(y | .). The paper's gradient step zeta = w (1 - k) is the same as moving D by -w grad_x v.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from priors.axpy import axpy_

from . import defaults
from .driver import Sampler, State
from .posterior import Posterior
from .schedule import karras


@dataclasses.dataclass(frozen=True)
class DPS(Sampler):
    """Diffusion posterior sampling (Chung et al. 2023), for any physics and any noise with a density.

    steps: levels from sigma_max to sigma_min (units of the image).
    step_size: factor on the weight w = sigma^2 / (1 + L max(u, sigma^2 zeta / w)), where L is the curvature of v along
    the gradient and u = 1/(1/sigma^2 + 1/p) the uncertainty of the image given x, p the prior's variance per pixel; so
    no step zeta is longer than 1/L, the Cauchy step. (The paper's, relative to the residual's norm, is tuned by hand.)

    DPS knows the uncertainty of the image given x by one number only; its spread is not that of the posterior.
    """

    steps: int | None = None
    sigma_max: float | None = None
    sigma_min: float | None = None
    step_size: float | None = None

    name: ClassVar[str] = "dps"

    def resolve(self, posterior: Posterior) -> DPS:
        return dataclasses.replace(
            self,
            steps=self.steps or 200,
            sigma_max=self.sigma_max or defaults.sigma_max(posterior),
            sigma_min=self.sigma_min or defaults.sigma_min(posterior, 0.05),
            step_size=self.step_size or 1.0,
        )

    @functools.cached_property
    def levels(self) -> tuple[float, ...]:
        return (*karras(self.sigma_max, self.sigma_min, self.steps), 0.0)

    def init(self, posterior: Posterior, noise: Tensor) -> State:
        x = self.sigma_max * noise
        return State(x, x)

    def step(self, posterior: Posterior, state: State, i: int, noise: Sequence[Tensor]) -> State:
        sigma, following = self.levels[i : i + 2]
        kept = (following / sigma) ** 2
        denoised, ascent = self._guide(posterior, state.x, sigma)
        x = ascent * self._zeta(posterior, ascent, sigma, 1 - kept)
        x = axpy_(1 - kept, denoised, axpy_(kept, state.x, x))
        x = axpy_(following * (1 - kept) ** 0.5, noise[0], x)
        return State(x, x)

    def evaluations(self, posterior: Posterior) -> int:
        return self.steps

    def _zeta(self, posterior: Posterior, ascent: Tensor, sigma: float, advance: float) -> float | Tensor:
        """zeta, a number or (N, 1, ..., 1). ascent: -grad_x v. advance: 1 - k = zeta / w."""
        uncertainty = 1 / (sigma**-2 + posterior.spread**-2)
        limit = posterior.information * max(uncertainty, sigma**2 * advance)
        gain = posterior.gain(ascent)  # L is information gain^2
        return self.step_size * sigma**2 * advance / (1 + limit * gain * gain)

    def _guide(self, posterior: Posterior, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """D(x, sigma) and -grad_x v(D(x, sigma))."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            denoised = posterior.prior.denoise(x, sigma)
        mean = denoised.detach()
        return mean, torch.autograd.grad(denoised, x, posterior.likelihood_score(mean))[0]
