"""Any denoiser as a prior."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .base import Prior, Sigma, sigma_per_item


class Denoiser(Prior):
    """The prior whose score is (denoiser(x, sigma) - x) / sigma^2 (Tweedie).

    denoiser: any deepinv denoiser, or any module called as denoiser(x, sigma) with sigma the noise's standard
    deviation in units of x; it is used as it is (weights, mode and gradients flags are not touched).
    image_shape: None where the denoiser takes any size. sigma_range: the levels it was trained for.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        image_shape: tuple[int, ...] | None = None,
        sigma_range: tuple[float, float] = (0.0, math.inf),
    ) -> None:
        super().__init__()
        if not callable(denoiser):
            raise TypeError(f"denoiser must be callable as denoiser(x, sigma), got {type(denoiser).__name__}")
        self.denoiser = denoiser
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self.sigma_range = tuple(sigma_range)

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """denoiser(x, sigma). x: (B, *image_shape); sigma: float, (B,) or (B, 1, ..., 1)."""
        self.check_shape(x)
        return self.denoiser(x, sigma_per_item(sigma, x))

    def ascend(
        self, x: Tensor, sigma: float, step: float | Tensor, noise: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """x + step score(x, sigma), which lies between x and the denoised image, and that image."""
        denoised = self.denoise(x, sigma)
        return torch.lerp(x, denoised, step / sigma**2), denoised
