"""The geometric score: drives a sampler to a prior's manifold, but not to the density that the prior has on it.

Source: Li et al. 2025 (arXiv 2509.24912), Eqs. 8 and 10, Theorems 5.1, 5.2 and 6.1, for the tempered score; the
density-cancelled score is this project's own (docs: theory).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Prior, Sigma, sigma_per_item

METHODS = ("tempered", "cancelled")


class MaximumEntropy(Prior):
    """A prior whose score has lost its density; its `denoise` is the wrapped prior's.

    tempered:   score = min(1, sigma / sigma_ref)^alpha s(x, sigma)                            (Eq. 8)
    cancelled:  score = (D(x) - x - sigma^2 b(D(x))) / sigma^2,
                sigma^2 b(p) = mean over z of (D(p + sigma z) + D(p - sigma z)) / 2 - p,   z ~ N(0, I)

    Langevin dynamics with it (unit diffusion, small sigma) are uniform with respect to the volume of the manifold; with
    a likelihood's score added they target exp(-nll) times that volume (Eq. 10). Tempered, the cloud around the manifold
    has thickness sigma^(1 - alpha/2) for sigma_ref = 1, cancelled it has thickness sigma. Errors of the score are
    tolerated up to o(sigma^-alpha) tempered and o(sigma^-1) cancelled, the latter since an error c also displaces the
    point at which its own mean is taken, by sigma^2 c (measured in examples/paper/slopes.py).

    Order of wrapping: `MaximumEntropy(Perturbed(prior, error))` makes the erroneous score geometric, which is the
    construction that tolerates errors; `Perturbed(MaximumEntropy(prior), error)` adds the error afterwards.

    prior: the wrapped prior. alpha: in [0, 2), used by "tempered" alone; 0 leaves the score as it is. sigma_ref: noise
    level, in units of the data, above which nothing is tempered. pairs: antithetic pairs in the mean over z, used by
    "cancelled" alone, which calls the denoiser 1 + 2 pairs times for one score (`evaluations`). seed: of the noise z
    where `score` is not given any; the k-th such call then draws from seed + k, so that a run can be repeated.
    """

    def __init__(
        self,
        prior: Prior,
        alpha: float = 1.0,
        method: str = "tempered",
        sigma_ref: float = 1.0,
        pairs: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(prior, Prior):
            raise TypeError(f"prior must be a Prior, got {type(prior).__name__}")
        if isinstance(prior, MaximumEntropy):
            raise TypeError("prior must have a density to lose, got a MaximumEntropy prior")
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if not 0 <= alpha < 2:
            raise ValueError(f"alpha must lie in [0, 2), got {alpha}")
        if not (math.isfinite(sigma_ref) and sigma_ref > 0):
            raise ValueError(f"sigma_ref must be finite and above 0, got {sigma_ref}")
        if int(pairs) != pairs or pairs < 1:
            raise ValueError(f"pairs must be an integer of at least 1, got {pairs}")
        self.prior, self.alpha, self.method = prior, float(alpha), method
        self.sigma_ref, self.pairs, self.seed = float(sigma_ref), int(pairs), int(seed)
        self.image_shape, self.sigma_range = prior.image_shape, prior.sigma_range
        self.evaluations, self.draws = (1, 0) if method == "tempered" else (1 + 2 * self.pairs, self.pairs)
        self._calls = 0

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """The wrapped prior's denoiser."""
        return self.prior.denoise(x, sigma)

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D(x) - x of the wrapped prior; unlike its own score times sigma^2, it keeps the density."""
        return self.prior.displacement(x, sigma)

    def stiffness(self, sigma: float) -> float:
        """That of the wrapped prior, tempered as the score is."""
        tempering = min(1.0, sigma / self.sigma_ref) ** self.alpha if self.method == "tempered" else 1.0
        return tempering * self.prior.stiffness(sigma)

    def radius(self, image_shape: tuple[int, ...]) -> float:
        """That of the wrapped prior."""
        return self.prior.radius(image_shape)

    def score(self, x: Tensor, sigma: Sigma, noise: Sequence[Tensor] | None = None) -> Tensor:
        """The geometric score, like x (B, *image_shape); noise as in `evaluate`."""
        return self.evaluate(x, sigma, noise)[0]

    def evaluate(self, x: Tensor, sigma: Sigma, noise: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The geometric score and the denoised image, both like x (B, *image_shape).

        noise: standard normal, `pairs` fields like x; of "cancelled" alone. A sampler that works
        on chunks of chains draws it for all and passes each chunk its part, so that the chunk size changes nothing.
        """
        level = sigma_per_item(sigma, x)
        displacement = self.prior.displacement(x, sigma)
        if self.method == "tempered":
            return (level / self.sigma_ref).clamp(max=1) ** self.alpha * displacement / level**2, x + displacement
        if noise is None or not len(noise):
            generator = torch.Generator().manual_seed(self.seed + self._calls)
            noise = torch.randn(self.pairs, *x.shape, generator=generator, dtype=x.dtype).to(x.device)
            self._calls += 1
        elif [field.shape for field in noise] != [x.shape] * self.pairs:
            came = ", ".join(str(tuple(field.shape)) for field in noise)
            raise ValueError(f"noise must have {self.pairs} fields of shape {tuple(x.shape)}, got {came}")
        density = torch.zeros_like(x)
        for z in noise:
            # The displacements from p +- sigma z, not the denoised points, are averaged: +- sigma z drops out exactly.
            p, z = x + displacement, level * z
            density = density + self.prior.displacement(p + z, sigma) + self.prior.displacement(p - z, sigma)
        return (displacement - density / (2 * self.pairs)) / level**2, x + displacement
