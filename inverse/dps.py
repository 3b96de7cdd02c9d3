"""Diffusion posterior sampling: the likelihood of the denoised image guides the reverse diffusion.

Chung, Kim, McCann, Klasky, Ye, "Diffusion posterior sampling for general noisy inverse problems", ICLR 2023,
Algorithm 1, written for the variance-exploding process. With D = D(x, sigma) and levels sigma > sigma',

    x' = x0 + (sigma'/sigma)^2 (x - x0) + sigma' sqrt(1 - (sigma'/sigma)^2) z,     x0 = D - w grad_x v(D(x, sigma)),

v = -log p(y | .). Subtracting w grad_x inside x0 is the paper's gradient step with zeta = w (1 - (sigma'/sigma)^2).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import torch
from torch import Tensor

from . import defaults
from .driver import Sampler, State
from .posterior import Posterior
from .schedule import karras


@dataclasses.dataclass(frozen=True)
class DPS(Sampler):
    """Diffusion posterior sampling (Chung et al. 2023), for any physics and any noise with a density.

    steps: levels from sigma_max to sigma_min (units of the image).
    step_size: factor on the weight w = sigma^2 / (1 + L u), where L is the curvature of v along the gradient and
    u = 1/(1/sigma^2 + 1/p) the uncertainty of the image given x, p the prior's variance per pixel; no step zeta is
    longer than 1/L, the Cauchy step. (The paper's zeta, relative to the residual's norm, is tuned by hand.)

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

    def step(self, posterior: Posterior, state: State, i: int, noise: Tensor) -> State:
        sigma, following = self.levels[i : i + 2]
        denoised, gradient = self._guide(posterior, state.x, sigma)
        kept = (following / sigma) ** 2
        x0 = denoised - self._weight(posterior, gradient, sigma, 1 - kept) * gradient
        x = x0 + kept * (state.x - x0) + following * (1 - kept) ** 0.5 * noise[0]
        return State(x, x)

    def evaluations(self, posterior: Posterior) -> int:
        return self.steps

    def _weight(self, posterior: Posterior, gradient: Tensor, sigma: float, advance: float) -> Tensor:
        """w: the Bayesian weight, unless the step `advance` w would then be longer than 1/L."""
        curvature = posterior.curvature_along(gradient)
        uncertainty = 1 / (sigma**-2 + defaults.spread(posterior) ** -2)
        bayesian = sigma**2 / (1 + curvature * uncertainty)
        return self.step_size * torch.minimum(bayesian, 1 / (advance * curvature))

    def _guide(self, posterior: Posterior, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """D(x, sigma) and grad_x v(D(x, sigma))."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            denoised = posterior.prior.denoise(x, sigma)
        gradient = -posterior.likelihood_score(denoised.detach())
        return denoised.detach(), torch.autograd.grad(denoised, x, gradient)[0]
