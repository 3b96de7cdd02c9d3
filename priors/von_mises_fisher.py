"""The von Mises-Fisher law of a sphere smoothed by Gaussian noise, in closed form.

X = r u with u on the unit sphere of R^d, density proportional to exp(kappa <mu, u>). Given X + sigma Z = x, u is again
von Mises-Fisher, with parameter w = kappa mu + r x / sigma^2, hence

    D(x, sigma) = r A_d(|w|) w / |w|,
    log p_sigma(x) = log E exp<w, u> - log E exp(kappa <mu, u>) - (|x|^2 + r^2)/(2 sigma^2) - d/2 log(2 pi sigma^2),

expectations over uniform u (`priors.bessel`). Mardia and Jupp 2000, Sec. 9.3 and 9.4. A mixture of such laws stays one
when it is smoothed: each part has its own D and log p_sigma, and the share of part k at x is in proportion to w_k
p_sigma,k(x).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .bessel import log_mean_exp, resultant_over_t
from .manifolds import Sphere, VonMisesFisher, VonMisesFisherMixture, interpolate


class VonMisesFisherLaw:
    """Smoothed law on a sphere; x is (B, d) and sigma (B, 1), both float64."""

    def __init__(self, sphere: Sphere, density: VonMisesFisher | None) -> None:
        """density: None for uniform."""
        self.radius, self.size = sphere.radius, sphere.dim + 1
        self.kappa = 0.0 if density is None else density.kappa
        self.direction = torch.eye(self.size, dtype=torch.float64)[0] if density is None else density.direction
        if len(self.direction) != self.size:
            raise ValueError(f"direction must have {self.size} entries for {sphere!r}, got {len(self.direction)}")

    def _t_squared(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """|w|^2, (B, 1), and mu on the device of x."""
        mu = self.direction.to(x.device)
        w = self.kappa * mu + self.radius * x / sigma**2
        return (w * w).sum(-1, keepdim=True), mu

    def displacement(self, x: Tensor, sigma: Tensor) -> Tensor:
        t_squared, mu = self._t_squared(x, sigma)
        # r A(|w|) w / |w| - x by components, so that the one along mu is free of cancellation.
        scale = self.radius * resultant_over_t(t_squared, self.size)
        return x * (self.radius * scale / sigma**2 - 1) + scale * self.kappa * mu

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        t_squared, mu = self._t_squared(x, sigma)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        t, geometric = t_squared.clamp_min(1e-30).sqrt(), self.radius * norm / sigma**2
        # t - (|x|^2 + r^2) / 2 sigma^2, two numbers of order sigma^-2, with their common part taken out by hand.
        along = (x @ mu)[:, None]
        exponent = (2 * self.radius * self.kappa * along / sigma**2 + self.kappa**2) / (t + geometric)
        exponent = exponent - ((norm - self.radius) / sigma) ** 2 / 2
        prior = log_mean_exp(torch.tensor(self.kappa**2, dtype=x.dtype, device=x.device), self.size) + self.kappa
        noise = self.size / 2 * (2 * math.pi * sigma**2).log()
        return (log_mean_exp(t_squared, self.size) + exponent - prior - noise)[:, 0]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, d): a polar angle from mu by inversion of its distribution function, and a uniform direction about mu."""
        angle = self._polar_angle(n, generator)[:, None]
        around = torch.randn(n, self.size, dtype=torch.float64, generator=generator)
        around = around - (around @ self.direction)[:, None] * self.direction
        around = around / torch.linalg.vector_norm(around, dim=-1, keepdim=True)
        return self.radius * (angle.cos() * self.direction + angle.sin() * around)

    def _polar_angle(self, n: int, generator: torch.Generator) -> Tensor:
        """Density sin^{d-2}(a) exp(kappa cos a) on [0, pi], from 2^14 nodes within 12 deviations of its mode."""
        power, kappa = self.size - 2, self.kappa
        root = math.hypot(power, 2 * kappa) + power
        cosine = 2 * kappa / root if root > 0 else 0.0
        bend = power / max(1 - cosine**2, 1e-300) + kappa * cosine
        mode, width = math.acos(cosine), 12 / math.sqrt(bend) if bend > 0 else math.pi
        angle = torch.linspace(max(0.0, mode - width), min(math.pi, mode + width), 2**14, dtype=torch.float64)
        log_density = kappa * (angle.cos() - math.cos(mode))
        if power:
            log_density = log_density + power * (angle.sin().clamp_min(1e-300) / max(math.sin(mode), 1e-300)).log()
        density = log_density.exp()
        mass = torch.cat([density.new_zeros(1), ((density[1:] + density[:-1]) / 2).cumsum(0)])
        return interpolate(torch.rand(n, dtype=torch.float64, generator=generator) * mass[-1], mass, angle)


class VonMisesFisherMixtureLaw:
    """Smoothed mixture on a sphere; x is (B, d) and sigma (B, 1), both float64."""

    def __init__(self, sphere: Sphere, density: VonMisesFisherMixture) -> None:
        self.laws = [VonMisesFisherLaw(sphere, part) for part in density.parts]
        self.weights = density.weights

    def _log_joint(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log(w_k p_sigma,k(x)), (K, B)."""
        values = torch.stack([law.log_prob(x, sigma) for law in self.laws])
        return values + self.weights.to(x.device).log()[:, None]

    def displacement(self, x: Tensor, sigma: Tensor) -> Tensor:
        shares = self._log_joint(x, sigma).softmax(0)
        return (shares[..., None] * torch.stack([law.displacement(x, sigma) for law in self.laws])).sum(0)

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._log_joint(x, sigma).logsumexp(0)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, d): the part of each draw first, then a draw of that part."""
        part = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        points = torch.empty(n, self.laws[0].size, dtype=torch.float64)
        for k, law in enumerate(self.laws):
            chosen = part == k
            points[chosen] = law.sample(int(chosen.sum()), generator)
        return points
