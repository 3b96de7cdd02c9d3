"""Predictor-corrector sampling of a prior, without any measurement, with a tempered corrector.

Song et al. 2021, "Score-based generative modeling through stochastic differential equations" (ICLR; arXiv 2011.13456),
Algorithm 1, in variance-exploding form. From every noise level sigma to the next, sigma', with the denoised image D,

    predictor  x <- D + (sigma'/sigma) (x - D)                                                             (DDIM)
               x <- D + (sigma'/sigma)^2 (x - D) + sigma' sqrt(1 - (sigma'/sigma)^2) z                     (DDPM)

and then, at sigma' a few times, Langevin dynamics with the tempered score (Li et al. 2025, Sec. 7.2), of which under
classifier-free guidance only the unconditional term is tempered: with f = min(1, sigma/sigma_ref)^alpha,

    corrector  x <- x + h s~ + sqrt(h/2) (z + z_last),     s~ = [f (D_none - x) + w (D_c - D_none)] / sigma^2.

That lives in a cloud of thickness tau = sigma / sqrt(f) around the images. At last noise-free steps along the
unconditional score project what was drawn to the manifold.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from priors import Prior
from priors.axpy import axpy

from .annealed_langevin import stir
from .checks import whole
from .driver import InvalidStateError
from .schedule import geometric, karras

PREDICTORS = ("ddim", "ddpm")
# A prior's unconditional displacement D_none - x and what guidance adds to it, w (D_c - D_none): (x, sigma) -> both.
Terms = Callable[[Tensor, float], tuple[Tensor, Tensor]]


@dataclasses.dataclass(frozen=True)
class PredictorCorrector:
    """Draws of a prior: `steps` predictor steps, each followed by `corrector_steps` of tempered Langevin dynamics.

    alpha: exponent of the tempering, in [0, 2): 0 keeps the prior's density, 1 is the maximum-entropy prior. predictor:
    "ddim", deterministic, or "ddpm", ancestral.
    step_size: of the corrector, in units of the squared thickness of its cloud, tau^2; below 2 for stability.
    snr: in place of it, r of the rule h = 2 (r |z| / |s|)^2 with norms averaged over all draws (Song et al. 2021,
    Algorithms 4 and 5; theirs is 0.16), for alpha = 0 alone: a tempered score makes h longer by f^-2, and unstable.
    sigma_max, sigma_min: first and last noise level, in units of the data. sigma_ref: the level above which nothing is
    tempered (None: the prior's standard deviation, root mean square over the entries).
    matched: whether predictor and projection take the noise in x for that of the tempered cloud, which it is, and call
    the denoiser at tau; without, as Li et al. write it, they call it at sigma, which is less.
    projection_steps: noise-free steps at the end (None: corrector_steps of them where tempered, else 1).
    Raises ValueError for a value out of its range.
    """

    steps: int = 30
    corrector_steps: int = 10
    alpha: float = 1.0
    predictor: str = "ddpm"
    step_size: float = 1.0
    snr: float | None = None
    sigma_max: float | None = None
    sigma_min: float | None = None
    sigma_ref: float | None = None
    matched: bool = True
    projection_steps: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("corrector_steps", 0), ("projection_steps", 1)):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least)
        for name in ("snr", "sigma_max", "sigma_min", "sigma_ref"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
        if not 0 <= self.alpha < 2:
            raise ValueError(f"alpha must lie in [0, 2), got {self.alpha!r}")
        if not 0 < self.step_size < 2:
            raise ValueError(f"step_size must lie in (0, 2), got {self.step_size!r}")
        if self.predictor not in PREDICTORS:
            raise ValueError(f"predictor must be one of {', '.join(PREDICTORS)}, got {self.predictor!r}")
        if self.snr and self.alpha:
            raise ValueError(f"snr needs alpha = 0, as it is unstable with a tempered score; got alpha = {self.alpha}")
        if self.sigma_max and self.sigma_min and self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min must be below sigma_max ({self.sigma_max:g}), got {self.sigma_min:g}")

    def resolve(self, prior: Prior, image_shape: tuple[int, ...]) -> PredictorCorrector:
        """The same sampler with every hyper-parameter that was None, but for snr, chosen from the prior."""
        low, high = prior.sigma_range
        radius = prior.radius(image_shape)
        spread = radius / math.sqrt(math.prod(image_shape))
        tempered = self.alpha > 0 and self.corrector_steps > 0
        return dataclasses.replace(
            self,
            sigma_max=self.sigma_max or min(high, 7 * radius),
            sigma_min=self.sigma_min or max(low, 0.02 * spread),
            sigma_ref=self.sigma_ref or spread,
            projection_steps=self.projection_steps or (self.corrector_steps if tempered else 1),
        )

    @property
    def levels(self) -> tuple[float, ...]:
        """Noise levels, steps + 1 of them (Karras et al. 2022, Eq. 5)."""
        return karras(self.sigma_max, self.sigma_min, self.steps + 1)

    def tempering(self, sigma: float) -> float:
        """f = min(1, sigma/sigma_ref)^alpha."""
        return min(1.0, sigma / self.sigma_ref) ** self.alpha

    def thickness(self, sigma: float) -> float:
        """tau = sigma / sqrt(f), of the cloud that the corrector leaves; sigma itself where there is none."""
        return sigma / math.sqrt(self.tempering(sigma)) if self.corrector_steps else sigma

    def evaluations(self, prior: Prior) -> int:
        """Denoiser calls per draw, of which a guided prior takes two for each step but those of the projection."""
        projection = self.projection_steps or (self.corrector_steps if self.alpha > 0 and self.corrector_steps else 1)
        return self.steps * (1 + self.corrector_steps) * prior.evaluations + projection

    def sample_prior(
        self,
        prior: Prior,
        n: int,
        seed: int = 0,
        image_shape: tuple[int, ...] | None = None,
        chunk_size: int = 64,
        device: str | torch.device = "cpu",
        progress: bool = False,
    ) -> Tensor:
        """n draws of a prior, guided or not, (n, *image_shape).

        prior: guided if it has `terms` and `guidance`, as `priors.Guided` and `priors.Diffusers` have. chunk_size:
        images computed at once, which does not change them; all n where a guided prior has a condition for each.
        Raises ValueError for n or chunk_size below 1 and without an image shape, InvalidStateError as soon as a draw is
        not finite.
        """
        whole("n", n)
        whole("chunk_size", chunk_size)
        shape = prior.image_shape or image_shape
        if shape is None:
            raise ValueError("image_shape is needed, because this prior is for images of any shape; got None")
        sampler = self.resolve(prior, shape)
        terms = _chunked(prior, chunk_size)
        generator = torch.Generator(device).manual_seed(seed)

        def white() -> Tensor:
            return torch.randn(n, *shape, generator=generator, device=device)

        with torch.no_grad(), tqdm(total=self.steps, desc="sample", unit="step", disable=not progress) as bar:
            x, last = sampler.levels[0] * white(), white()
            for i, sigma in enumerate(sampler.levels[1:]):
                x = sampler.predict(terms, x, i, white)
                for _ in range(self.corrector_steps):
                    x, last = sampler.correct(terms, x, sigma, white(), last)
                _check_finite(x, i, sampler)
                bar.update()
            return sampler.project(_chunked(getattr(prior, "unconditional", prior), chunk_size), x)

    def predict(self, terms: Terms, x: Tensor, i: int, white: Callable[[], Tensor]) -> Tensor:
        """x at level i + 1 from x (n, *image_shape) at level i."""
        sigma, following = self.levels[i], self.levels[i + 1]
        if i and self.matched:
            sigma = self.thickness(sigma)
        ratio = following / sigma
        unconditional, guidance = terms(x, sigma)
        if self.predictor == "ddim":
            return axpy(1 - ratio, unconditional + guidance, x)
        x = axpy(1 - ratio**2, unconditional + guidance, x)
        return axpy(following * math.sqrt(1 - ratio**2), white(), x)

    def correct(self, terms: Terms, x: Tensor, sigma: float, noise: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """x after a step of Langevin dynamics at level sigma, and the noise to remember."""
        unconditional, guidance = terms(x, sigma)
        factor = self.tempering(sigma)
        drift = axpy(factor, unconditional, guidance)
        if self.snr:
            h = 2 * (self.snr * sigma * _mean_norm(noise) / _mean_norm(drift)) ** 2  # in units of sigma^2
            return axpy(sigma * math.sqrt(2 * h), noise, axpy(h, drift, x)), noise
        h = self.step_size / factor
        return stir(axpy(h, drift, x), h * sigma**2, noise, last), noise

    def project(self, terms: Terms, x: Tensor) -> Tensor:
        """x after noise-free steps along the unconditional score, from the thickness of the cloud down to sigma_min."""
        start = self.thickness(self.sigma_min) if self.matched else self.sigma_min
        levels: Sequence[float] = (start,)
        if self.projection_steps > 1:
            levels = geometric(start, self.sigma_min, self.projection_steps)
        for sigma, following in pairwise((*levels, 0.0)):
            share = 1 - following / sigma if self.matched and start > self.sigma_min else 1.0
            x = axpy(share, terms(x, sigma)[0], x)
        return x


def _chunked(prior: Prior, chunk_size: int) -> Terms:
    """The two terms of a prior, of which the second is zero without guidance, some images at a time."""

    def terms(x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        guided: Any = prior
        if not hasattr(guided, "terms"):
            displacement = torch.cat([prior.displacement(part, sigma) for part in x.split(chunk_size)])
            return displacement, torch.zeros_like(displacement)
        parts = [guided.terms(part, sigma) for part in x.split(chunk_size)]
        without, under = (torch.cat(halves) for halves in zip(*parts, strict=True))
        return without - x, guided.guidance * (under - without)

    return terms


def _mean_norm(x: Tensor) -> float:
    return float(x.flatten(1).norm(dim=1).mean())


def _check_finite(x: Tensor, i: int, sampler: PredictorCorrector) -> None:
    broken = int((~torch.isfinite(x.flatten(1)).all(1)).sum())
    if broken:
        raise InvalidStateError(
            f"predictor-corrector left the finite numbers by step {i + 1} of {sampler.steps} "
            f"(sigma = {sampler.levels[i + 1]:.3g}) in {broken} of {len(x)} draws: lower step_size or guidance"
        )
