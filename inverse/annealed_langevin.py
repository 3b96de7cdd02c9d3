"""Langevin dynamics through decreasing noise levels, with a likelihood.

Song and Ermon, "Generative modeling by estimating gradients of the data distribution", NeurIPS 2019, Algorithm 1; the
likelihood is smoothed with the level as in Jalal et al. 2021. At level sigma

    x' = x + h [score(x, sigma) + grad log p_sigma(y | x)] + sqrt(h / 2) (z + z_last),

where p_sigma(y | x) has the noise variance s^2 + smoothing sigma^2 |A|^2. Averaging each noise with the one before
(Leimkuhler and Matthews 2013) makes the variance of a Gaussian target exact at any stable h, where Euler-Maruyama
inflates it by h L / 2.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from priors.axpy import axpy_

from . import defaults
from .driver import Sampler, State
from .posterior import Posterior
from .schedule import geometric


def stir(x: Tensor, h: float | Tensor, noise: Tensor, last: Tensor) -> Tensor:
    """x, to which sqrt(h / 2) (noise + last) was added in place. h: a number or (N, 1, ..., 1)."""
    return axpy_((h / 2) ** 0.5, last, axpy_((h / 2) ** 0.5, noise, x))


@dataclasses.dataclass(frozen=True)
class AnnealedLangevin(Sampler):
    """Annealed Langevin dynamics (Song and Ermon 2019) with a likelihood, for any physics and noise with a density.

    steps: in all; steps_per_level of them at each of the geometric levels from sigma_max to sigma_min (image units).
    step_size: in units of 1/L, L the Lipschitz constant of the drift at the level; below 2 for stability.
    smoothing: of the likelihood, in parts of the noise that the level itself puts into A x. Chains choose between modes
    while sigma is large: smoothed more, they choose with less of what y says; smoothed less, they need more steps.

    Where the physics is not linear the likelihood's gradient is evaluated at the denoised point, since images of
    standard deviation sigma are far from anything that the physics is meant for.
    """

    steps: int | None = None
    sigma_max: float | None = None
    sigma_min: float | None = None
    step_size: float | None = None
    steps_per_level: int | None = None
    smoothing: float | None = None

    name: ClassVar[str] = "annealed-langevin"

    def resolve(self, posterior: Posterior) -> AnnealedLangevin:
        return dataclasses.replace(
            self,
            steps=self.steps or 1000,
            sigma_max=self.sigma_max or defaults.sigma_max(posterior),
            sigma_min=self.sigma_min or defaults.sigma_min(posterior, 0.2),
            step_size=self.step_size or 1.0,
            steps_per_level=self.steps_per_level or 1,
            smoothing=self.smoothing or 0.1,
        )

    @functools.cached_property
    def levels(self) -> tuple[float, ...]:
        k = self.steps_per_level
        levels = geometric(self.sigma_max, self.sigma_min, -(-self.steps // k))
        return tuple(sigma for sigma in levels for _ in range(k))[: self.steps]

    def init(self, posterior: Posterior, noise: Tensor) -> State:
        return State(self.sigma_max * noise, noise)

    def step(self, posterior: Posterior, state: State, i: int, noise: Sequence[Tensor]) -> State:
        sigma = self.levels[i]
        tempering = 1 / (1 + self.smoothing * sigma**2 * posterior.curvature)
        h = self.step_size / (posterior.prior.stiffness(sigma) + tempering * posterior.curvature)
        x, denoised = posterior.prior.ascend(state.x, sigma, h, noise[1:])
        at = state.x if posterior.linear else denoised
        x = axpy_(h * tempering, posterior.likelihood_score(at), x)
        return State(stir(x, h, noise[0], state.memory), noise[0])

    def finish(self, posterior: Posterior, state: State) -> Tensor:
        return posterior.prior.denoise(state.x, self.sigma_min)

    def draws(self, posterior: Posterior) -> int:
        return 1 + posterior.prior.draws

    def evaluations(self, posterior: Posterior) -> int:
        return self.steps * posterior.prior.evaluations + 1
