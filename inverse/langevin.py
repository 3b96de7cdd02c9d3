"""Langevin dynamics at one noise level; with a maximum-entropy prior, Eq. 10 of Li et al. 2025.

With v(x) = -log p(y | x) and the prior's score at one level sigma (tempered or cancelled if it is MaximumEntropy),

    dX = -grad v(X) dt + score(X, sigma) dt + sqrt(2) dW.

At sigma > 0 the chains live in a cloud around the data whose thickness takes part in the residual and so widens the
posterior. With -grad v evaluated at the denoised point D(X, sigma), without the Jacobian, that bias is gone; with it,
the drift is the gradient of -v(D(X, sigma)), at the price of one vector-Jacobian product a step.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from priors.axpy import axpy_

from . import defaults
from .annealed_langevin import stir
from .dps import DPS
from .driver import Sampler, State
from .posterior import Posterior


@dataclasses.dataclass(frozen=True)
class Langevin(Sampler):
    """Langevin dynamics for the posterior at one noise level (Li et al. 2025, Eq. 10).

    steps: in all; the first `anneal_steps` are a run of `DPS` from sigma_max down to `sigma`, since local moves neither
    find nor leave a mode; all others are at sigma, in units of the image.
    time: of the run at the level, from which steps are chosen where they are not given. Its unit is that of the drift,
    in which a law of standard deviation s is forgotten in about s^2.
    step_size: in units of 1/L, L the Lipschitz constant of the drift, so a fixed part of the cloud's squared thickness.
    likelihood_at: "denoised", "denoised-jacobian" or "x", what the likelihood's gradient is once the level is reached:
    -grad v at D(x), its product with the Jacobian of D, or -grad v at x.

    The noise is that of Leimkuhler and Matthews (2013), see `AnnealedLangevin`. Returned are denoised chains.
    Raises ValueError where anneal_steps is not below steps, sigma_max not above sigma, likelihood_at none of the three.
    """

    steps: int | None = None
    sigma: float | None = None
    step_size: float | None = None
    likelihood_at: str = "denoised"
    sigma_max: float | None = None
    anneal_steps: int | None = None
    time: float | None = None

    name: ClassVar[str] = "langevin"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.likelihood_at not in ("denoised", "denoised-jacobian", "x"):
            raise ValueError(
                f'likelihood_at must be "denoised", "denoised-jacobian" or "x", got {self.likelihood_at!r}'
            )
        if self.sigma and self.sigma_max and self.sigma_max <= self.sigma:
            raise ValueError(f"sigma_max must be above sigma ({self.sigma:g}), got {self.sigma_max:g}")
        if self.steps and self.anneal_steps and self.anneal_steps >= self.steps:
            raise ValueError(f"anneal_steps must be below steps ({self.steps}), got {self.anneal_steps}")

    def resolve(self, posterior: Posterior) -> Langevin:
        chosen = dataclasses.replace(
            self,
            sigma=self.sigma or defaults.sigma_min(posterior, 0.2),
            step_size=self.step_size or 0.5,
            sigma_max=self.sigma_max or defaults.sigma_max(posterior),
        )
        shortest = float(torch.as_tensor(chosen.step_length(posterior)).min())
        if self.time and not self.steps:
            anneal_steps = self.anneal_steps or 200
            steps = anneal_steps + max(1, math.ceil(self.time / shortest))
        else:
            steps = self.steps or max(1000, 2 * (self.anneal_steps or 0))
            anneal_steps = self.anneal_steps or max(1, steps // 4)
        time = (steps - anneal_steps) * shortest
        return dataclasses.replace(chosen, steps=steps, anneal_steps=anneal_steps, time=time)

    def step_length(self, posterior: Posterior) -> float | Tensor:
        """h: step_size over the Lipschitz constant of the drift; a number or one per chain, (N, 1, ..., 1)."""
        return self.step_size / (posterior.prior.stiffness(self.sigma) + posterior.curvature)

    @functools.cached_property
    def levels(self) -> tuple[float, ...]:
        return self._approach.levels[:-1] + (self.sigma,) * (self.steps - self.anneal_steps)

    @functools.cached_property
    def _approach(self) -> DPS:
        start = max(self.sigma_max, self.sigma)
        return DPS(steps=self.anneal_steps, sigma_max=start, sigma_min=self.sigma, step_size=1.0)

    def init(self, posterior: Posterior, noise: Tensor) -> State:
        return self._approach.init(posterior, noise)

    def step(self, posterior: Posterior, state: State, i: int, noise: Sequence[Tensor]) -> State:
        if i < self.anneal_steps:
            return State(self._approach.step(posterior, state, i, noise).x, noise[0])
        h = self.step_length(posterior)
        x, likelihood_score = self._ascend(posterior, state.x, h, noise[1:])
        x = axpy_(h, likelihood_score, x)
        return State(stir(x, h, noise[0], state.memory), noise[0])

    def _ascend(
        self, posterior: Posterior, x: Tensor, h: float | Tensor, noise: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """x + h score(x, sigma), a new tensor, and the likelihood's gradient."""
        if self.likelihood_at != "denoised-jacobian":
            ahead, denoised = posterior.prior.ascend(x, self.sigma, h, noise)
            return ahead, posterior.likelihood_score(denoised if self.likelihood_at == "denoised" else x)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            ahead, denoised = posterior.prior.ascend(x, self.sigma, h, noise)
        pull = posterior.likelihood_score(denoised.detach())
        return ahead.detach(), torch.autograd.grad(denoised, x, pull)[0]

    def finish(self, posterior: Posterior, state: State) -> Tensor:
        return posterior.prior.denoise(state.x, self.sigma)

    def draws(self, posterior: Posterior) -> int:
        return 1 + posterior.prior.draws

    def evaluations(self, posterior: Posterior) -> int:
        return self.anneal_steps + (self.steps - self.anneal_steps) * posterior.prior.evaluations + 1
