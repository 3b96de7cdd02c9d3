"""Moment matching posterior sampling: the likelihood given x, with the covariance of the image given x.

Rozet, Andry, Lanusse, Louppe, "Learning diffusion priors from observations by expectation maximization", NeurIPS 2024,
Algorithm 3. With D = D(x, sigma), its Jacobian J = dD/dx and V = Cov[X | x] = sigma^2 J (Tweedie's second formula),
p(y | x) is taken as N(y; A D, s^2 I + A V A^T), so that the mean of the image given x and y is

    D_y = D + V A^T u,      (s^2 I + A V A^T) u = y - A D,

with u from conjugate residuals, one vector-Jacobian product an iteration. The reverse diffusion, with D_y in the place
of D, is integrated to second order (Lu et al. 2022, DPM-Solver++(2M), data prediction, variance exploding).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from . import defaults
from .driver import Sampler, State
from .posterior import Posterior
from .schedule import karras


@dataclasses.dataclass(frozen=True)
class MMPS(Sampler):
    """Moment matching posterior sampling (Rozet et al. 2024), for a linear physics with Gaussian noise.

    steps: levels from sigma_max to sigma_min (image units), one denoiser call each.
    iterations: of conjugate residuals, at most; each costs one vector-Jacobian product of the denoiser.
    tolerance: relative residual at which they stop for a chain.
    eta: 0 for the deterministic probability flow, 1 for the reverse diffusion; more lets chains forget what the
    Gaussian approximation got wrong at high noise, and needs more steps: noise is renewed at the rate 1 + eta^2.

    Exact, up to discretisation, for a Gaussian prior.
    """

    steps: int | None = None
    sigma_max: float | None = None
    sigma_min: float | None = None
    iterations: int | None = None
    tolerance: float | None = None
    eta: float | None = None

    name: ClassVar[str] = "mmps"
    needs_linear_gaussian: ClassVar[bool] = True

    def resolve(self, posterior: Posterior) -> MMPS:
        return dataclasses.replace(
            self,
            steps=self.steps or 150,
            sigma_max=self.sigma_max or defaults.sigma_max(posterior, radii=3),
            sigma_min=self.sigma_min or defaults.sigma_min(posterior, 0.05),
            iterations=self.iterations or 5,
            tolerance=self.tolerance or 1e-2,
            eta=4.0 if self.eta is None else self.eta,
        )

    @functools.cached_property
    def levels(self) -> tuple[float, ...]:
        return (*karras(self.sigma_max, self.sigma_min, self.steps), 0.0)

    def init(self, posterior: Posterior, noise: Tensor) -> State:
        # around the mean of the image given y, not around 0, so that sigma_max need not dwarf the data
        x = self.sigma_max * noise
        x = x + self.denoise(posterior, x, self.sigma_max)
        return State(x, x)

    def step(self, posterior: Posterior, state: State, i: int, noise: Sequence[Tensor]) -> State:
        levels = self.levels
        sigma, following = levels[i : i + 2]
        x0 = self.denoise(posterior, state.x, sigma)
        ahead = x0 if i == 0 or following == 0 else x0 + _lead(levels, i) * (x0 - state.memory)
        kept = (following / sigma) ** (1 + self.eta**2)
        fresh = max(0.0, following**2 - (kept * sigma) ** 2) ** 0.5
        return State(ahead + kept * (state.x - ahead) + fresh * noise[0], x0)

    def denoise(self, posterior: Posterior, x: Tensor, sigma: float) -> Tensor:
        """D_y: the mean of the image given x and y, under moment matching. x: (N, *image_shape)."""
        physics = posterior.physics
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            denoised = posterior.prior.denoise(x, sigma)

        mean, noise = denoised.detach(), posterior.noise_variance

        def system(u: Tensor) -> tuple[Tensor, Tensor]:
            v = sigma**2 * torch.autograd.grad(denoised, x, physics.A_adjoint(u), retain_graph=True)[0]
            return noise * u + physics.A(v), v

        return mean + conjugate_residuals(system, posterior.y - physics.A(mean), self.iterations, self.tolerance)

    def evaluations(self, posterior: Posterior) -> int:
        return self.steps + 1


def conjugate_residuals(
    system: Callable[[Tensor], tuple[Tensor, Tensor]], b: Tensor, iterations: int, tolerance: float
) -> Tensor:
    """L u for the u of smallest |b - M u| in the Krylov space of M and b, each item of the batch on its own.

    The generalised conjugate residual method (Eisenstat, Elman, Schultz 1983). A network's Jacobian is not symmetric;
    conjugate gradients diverge on it, while here no iteration makes the residual larger.
    system: direction (N, ...) -> (M direction, L direction), L linear, so that L u costs no further product.
    An item stops at a relative residual of `tolerance`; the others go on without touching it.
    """
    residual, solution, goal = b, 0.0, tolerance**2 * _dot(b, b)
    directions: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(iterations):
        image, seen = system(residual)
        for last_image, last_seen, last_energy in directions:
            beta = _ratio(_dot(image, last_image), last_energy)
            image, seen = image - beta * last_image, seen - _like(beta, seen) * last_seen
        energy = _dot(image, image)
        active = _dot(residual, residual) > goal
        alpha = torch.where(active, _ratio(_dot(residual, image), energy), 0.0)
        solution, residual = solution + _like(alpha, seen) * seen, residual - alpha * image
        directions.append((image, seen, energy))
        if not bool((_dot(residual, residual) > goal).any()):
            break
    return solution


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Real inner product of each item, (N, 1, ..., 1)."""
    return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, 0 where b is."""
    return torch.where(b > 0, a / b, 0.0)


def _like(alpha: Tensor, v: Tensor) -> Tensor:
    """One number per item, shaped to multiply v."""
    return alpha.reshape(-1, *[1] * (v.ndim - 1))


def _lead(levels: tuple[float, ...], i: int) -> float:
    """How far D_y is extrapolated: half the ratio of this step to the last one, in log sigma."""
    before, here, after = (math.log(sigma) for sigma in levels[i - 1 : i + 2])
    return (after - here) / (here - before) / 2
