"""Classifier-free guidance: a conditional prior pushed away from the unconditional one.

Ho and Salimans 2022, "Classifier-free diffusion guidance" (arXiv 2207.12598), Eq. 6, in the convention where w = 1 is
the conditional prior itself: with the denoisers D_none and D_c,

    D_w(x, sigma) = D_none + w (D_c - D_none),      score = s_none + w (s_c - s_none).

A sampler that treats the two terms in different ways (Li et al. 2025, Sec. 7.2: only the unconditional one is tempered)
asks for `terms`. Whatever has `terms(x, sigma)` and a number `guidance` is guided, a `Guided` prior or not.
"""

from __future__ import annotations

import math

from torch import Tensor

from .base import Prior, Sigma


class Guided(Prior):
    """A prior under a condition, with guidance: D_none + w (D_c - D_none).

    prior: the unconditional one. condition: the conditional prior, or what `prior.given` makes one of, such as a label.
    guidance: w, finite; 0 is the unconditional prior, 1 the conditional one, beyond 1 sharper than that.
    Raises TypeError where condition is no prior and `prior` has no `given`, ValueError for another image shape.
    """

    evaluations = 2

    def __init__(self, prior: Prior, condition: object, guidance: float = 7.5) -> None:
        super().__init__()
        if not isinstance(prior, Prior):
            raise TypeError(f"prior must be a Prior, got {type(prior).__name__}")
        if not isinstance(condition, Prior) and not hasattr(prior, "given"):
            raise TypeError(f"condition must be a Prior, as {type(prior).__name__} has no `given`; got {condition!r}")
        if isinstance(guidance, bool) or not math.isfinite(guidance):
            raise ValueError(f"guidance must be a finite number, got {guidance}")
        self.unconditional = prior
        self.conditional = condition if isinstance(condition, Prior) else prior.given(condition)
        if self.conditional.image_shape != prior.image_shape:
            raise ValueError(f"condition must be for images {prior.image_shape}, got {self.conditional.image_shape}")
        self.guidance = float(guidance)
        self.image_shape, self.sigma_range = prior.image_shape, prior.sigma_range

    def terms(self, x: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        """D_none(x, sigma) and D_c(x, sigma), each like x (B, *image_shape)."""
        return self.unconditional.denoise(x, sigma), self.conditional.denoise(x, sigma)

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D_none + w (D_c - D_none). x: (B, *image_shape), sigma: float, (B,) or (B, 1, ..., 1)."""
        return x + self.displacement(x, sigma)

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D_w - x, from displacements, without their cancellation at small sigma."""
        without, under = self.unconditional.displacement(x, sigma), self.conditional.displacement(x, sigma)
        return without + self.guidance * (under - without)

    def radius(self, image_shape: tuple[int, ...]) -> float:
        """That of the unconditional prior."""
        return self.unconditional.radius(image_shape)
