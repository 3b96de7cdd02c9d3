"""Moment matching for large images: a covariance that is diagonal in frequency, corrected by the denoiser itself.

Moment matching (Rozet et al. 2024, see `mmps`) takes p(y | x) as N(y; A D, s^2 I + A V A^T) with V = Cov[X | x] =
sigma^2 J, J the Jacobian of the denoiser, and pays a vector-Jacobian product for every product with V. Here V is first
replaced by the part of it that is diagonal in frequency and in luminance and colour differences, a function of the
frequency's modulus,

    V_0 = sigma^2 F* diag(g_c(|f|)) F,      g_c(|f|) = mean over that |f| of Re (F J z)_c(f) conj (F z)_c(f),

for a probe z of unit modulus and random phase at every frequency. On natural images, which are nearly stationary, that
is most of V (their Wiener filter is of this form); for a stationary Gaussian prior it is all of it, and the method is
exact. One number for V, as in DiffPIR (Zhu et al. 2023), is further from it: low frequencies are less certain.

V_0 does not know where the edges of this image are; the denoiser does. So V_0 only preconditions the equation with V,

    (s^2 I + A V A^T) P u = y - A D,      P = (s^2 I + A V_0 A^T)^-1,

of which one or a few steps of conjugate residuals are taken, each with one product V w = sigma^2 J w: the difference of
two denoiser calls over a short distance, without derivatives (J is taken as symmetric, as that of an exact one is). At
high noise, where an image is still to form, V_0 alone is as good.

g is measured on scouts, one for each measurement, that go down the levels first in few steps; it is the mean over
the measurements, which are taken to be of similar images.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from . import defaults
from .driver import default_chunk
from .frequencies import frequencies_of
from .mmps import MMPS, conjugate_residuals
from .posterior import Posterior
from .schedule import karras

# The denoiser's answer to a probe of this size, in units of sigma, is taken as linear.
PROBE = 0.1
# So far, in units of sigma, a product with V looks ahead: less, and posteriors of photographs come out too narrow, as
# the denoiser's answer bends; more, and their means get worse (chosen by the score CRPS on held-out crops, 0.1 to 0.5).
REACH = 0.2
# Noise below which an image has begun to form, in units of the spread of the images.
FORMED = 2.0
TINY = 1e-20


@dataclasses.dataclass(frozen=True)
class SpectralMMPS(MMPS):
    """Moment matching posterior sampling for large images, for a linear physics with Gaussian noise.

    steps: levels from sigma_max to sigma_min (image units), one denoiser call each. products: with the denoiser's
    Jacobian at each level below sigma_formed, at most, one more call each; 0 for the covariance diagonal in frequency
    alone. iterations: of conjugate residuals with that covariance, which call the physics only; a blur that is diagonal
    in frequency needs none. tolerance: relative residual at which a chain stops. eta: see `MMPS`.
    scout_steps: levels at which the covariance is measured, two denoiser calls each, once for each measurement.

    Exact, up to discretisation, for a stationary Gaussian prior.
    """

    products: int | None = None
    sigma_formed: float | None = None
    scout_steps: int | None = None

    name: ClassVar[str] = "mmps-spectral"

    def check(self, posterior: Posterior) -> None:
        super().check(posterior)
        if len(posterior.image_shape) != 3:
            raise ValueError(f"images must be (C, H, W) for {self.name}, got {tuple(posterior.image_shape)}; use mmps")

    def resolve(self, posterior: Posterior) -> SpectralMMPS:
        sampler = dataclasses.replace(
            self,
            steps=self.steps or 25,
            products=1 if self.products is None else self.products,
            sigma_formed=self.sigma_formed or FORMED * posterior.spread,
            sigma_max=self.sigma_max or min(defaults.sigma_max(posterior, radii=3), 40 * posterior.spread),
            sigma_min=self.sigma_min or defaults.sigma_min(posterior, 0.05),
            iterations=self.iterations or 15,
            tolerance=self.tolerance or 1e-2,
            eta=1.0 if self.eta is None else self.eta,
            scout_steps=self.scout_steps or 10,
        )
        with torch.no_grad():
            sampler.__dict__["_response"] = response(posterior)
            sampler.__dict__["_gains"] = _Gains.measured(sampler, posterior)
        return sampler

    def denoise(self, posterior: Posterior, x: Tensor, sigma: float) -> Tensor:
        """D_y: the mean of the image given x and y, under moment matching. x: (N, *image_shape)."""
        physics, denoise = posterior.physics, posterior.prior.denoise
        mean, spectrum = denoise(x, sigma), sigma**2 * self._gains.at(sigma)
        if self._calls(sigma) == 1:
            return self.conditioned(posterior, mean, spectrum)
        frequencies = frequencies_of(posterior.image_shape, mean.device, mean.dtype)

        def system(residual: Tensor) -> tuple[Tensor, Tensor]:
            w = self.preconditioned(posterior, residual, spectrum)
            size = REACH * sigma / w.square().flatten(1).mean(1).sqrt().clamp_min(TINY).reshape(-1, 1, 1, 1)
            v = sigma**2 * (denoise(x + size * w, sigma) - mean) / size
            return residual + physics.A(v - frequencies.filtered(w, spectrum)), v

        return mean + conjugate_residuals(system, posterior.y - physics.A(mean), self.products, self.tolerance)

    def conditioned(self, posterior: Posterior, mean: Tensor, spectrum: Tensor) -> Tensor:
        """Mean of the image given y, of N(mean, V_0) with V_0 = F* diag(spectrum) F. spectrum: (C, H, W // 2 + 1)."""
        frequencies = frequencies_of(posterior.image_shape, mean.device, mean.dtype)
        residual = posterior.y - posterior.physics.A(mean)
        return mean + frequencies.filtered(self.preconditioned(posterior, residual, spectrum), spectrum)

    def preconditioned(self, posterior: Posterior, residual: Tensor, spectrum: Tensor) -> Tensor:
        """A^T u for the u of (s^2 I + A V_0 A^T) u = residual."""
        physics, noise = posterior.physics, posterior.noise_variance
        frequencies = frequencies_of(posterior.image_shape, residual.device, residual.dtype)
        if self._response is not None:
            return frequencies.filtered(physics.A_adjoint(residual), 1 / (noise + spectrum * self._response))

        def system(u: Tensor) -> tuple[Tensor, Tensor]:
            back = physics.A_adjoint(u)
            return noise * u + physics.A(frequencies.filtered(back, spectrum)), back

        return conjugate_residuals(system, residual, self.iterations, self.tolerance)

    def _calls(self, sigma: float) -> int:
        """Of the denoiser, at a level."""
        return 1 + (self.products if sigma < self.sigma_formed else 0)

    def evaluations(self, posterior: Posterior) -> int:
        return self._calls(self.sigma_max) + sum(map(self._calls, self.levels[:-1]))

    def shared_evaluations(self, posterior: Posterior) -> int:
        return 2 * self.scout_steps


class _Gains:
    """g_c at the levels of the scouts, and between them. sigmas: falling. values: (levels, C, KNOTS)."""

    def __init__(self, sigmas: tuple[float, ...], values: Tensor, shape: tuple[int, ...]) -> None:
        self.sigmas, self.values = sigmas, values
        self.frequencies = frequencies_of(shape, values.device, values.dtype)

    @classmethod
    def measured(cls, sampler: SpectralMMPS, posterior: Posterior) -> _Gains:
        """Scouts follow the deterministic flow with the covariance that has just been measured."""
        shape = posterior.image_shape
        generator = torch.Generator(posterior.y.device).manual_seed(0)
        options = {"generator": generator, "device": posterior.y.device, "dtype": posterior.y.dtype}
        x = sampler.sigma_max * torch.randn((len(posterior), *shape), **options)
        frequencies = frequencies_of(shape, x.device, x.dtype)
        levels = (*karras(sampler.sigma_max, sampler.sigma_min, sampler.scout_steps), 0.0)
        values = []
        for i, sigma in enumerate(levels[:-1]):
            mean = denoised(posterior, x, sigma)
            probe = frequencies.probe(torch.randn(x.shape, **options))
            answer = (denoised(posterior, x + PROBE * sigma * probe, sigma) - mean) / (PROBE * sigma)
            values.append(frequencies.gain(probe, answer))
            spectrum = sigma**2 * frequencies.spectrum(values[-1])
            x = torch.lerp(sampler.conditioned(posterior, mean, spectrum), x, levels[i + 1] / sigma)
        return cls(levels[:-1], torch.stack(values), shape)

    def at(self, sigma: float) -> Tensor:
        """g_c(|f|) at a level, (C, H, W // 2 + 1): log g is linear in log sigma."""
        place = sum(level > sigma for level in self.sigmas)
        low, high = max(place - 1, 0), min(place, len(self.sigmas) - 1)
        if low == high:
            return self.frequencies.spectrum(self.values[low])
        weight = math.log(self.sigmas[low] / sigma) / math.log(self.sigmas[low] / self.sigmas[high])
        return self.frequencies.spectrum(torch.lerp(self.values[low].log(), self.values[high].log(), weight).exp())


def denoised(posterior: Posterior, x: Tensor, sigma: float) -> Tensor:
    """The prior's D(x, sigma) in as much memory as the chains take, x (N, *image_shape)."""
    parts = x.split(default_chunk(posterior.image_shape, x.device))
    return torch.cat([posterior.prior.denoise(part, sigma) for part in parts])


def response(posterior: Posterior) -> Tensor | None:
    """r with A^T A = F* diag(r) F, (C, H, W // 2 + 1), as circular blurs have; None for a physics without."""
    physics, shape, y = posterior.physics, posterior.image_shape, posterior.y
    frequencies = frequencies_of(shape, y.device, y.dtype)
    generator = torch.Generator(y.device).manual_seed(0)
    white = torch.randn((2, 1, *shape), generator=generator, device=y.device, dtype=y.dtype)
    first, second = (frequencies.probe(noise).expand(len(y), -1, -1, -1) for noise in white)
    found = frequencies.response(first, physics.A_adjoint(physics.A(first)))
    answer = physics.A_adjoint(physics.A(second))
    error = (answer - frequencies.filtered(second, found)).square().sum()
    return found if error <= 1e-6 * answer.square().sum() else None
