"""The one interface of every prior: its denoiser, and the score that follows from it.

With X ~ p, Z ~ N(0, I) and p_sigma the law of X + sigma Z (variance exploding), Tweedie's formula says

    D(x, sigma) = E[X | X + sigma Z = x],        grad log p_sigma(x) = (D(x, sigma) - x) / sigma^2.

The displacement D - x stays of order one where the score grows like sigma^-2, so scores are computed from
displacements and divided last.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

Sigma = float | Tensor


def sigma_per_item(sigma: Sigma, x: Tensor) -> Tensor:
    """Noise level as a tensor that broadcasts over x: () or (B, 1, ..., 1).

    sigma: a number, a 0-d tensor, or one value per item as (B,) or (B, 1, ..., 1). x: (B, *image_shape).
    Raises ValueError when sigma is not finite and positive, or has another number of values than x has items.
    """
    if not isinstance(sigma, Tensor):
        level = _level(float(sigma), x.dtype, x.device)
        # a network that changes what it is given must not change what the next call is given
        return level if level._version == 0 else level.new_full((), float(sigma))
    sigma = sigma.to(device=x.device, dtype=x.dtype)
    if not bool(((sigma > 0) & torch.isfinite(sigma)).all()):
        raise ValueError(f"sigma must be finite and above 0, got values from {sigma.min():g} to {sigma.max():g}")
    if sigma.numel() == 1:
        return sigma.reshape(())
    if sigma.numel() != len(x):
        raise ValueError(f"sigma must hold one value or one per item of x ({len(x)}), got {sigma.numel()}")
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


# Beside a small network the time to make a tensor of one number counts, and a sampler's levels are few.
@functools.lru_cache(maxsize=2048)
def _level(sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma must be finite and above 0, got {sigma}")
    with torch.inference_mode(False):
        return torch.full((), sigma, dtype=dtype, device=device)


def check_derivative(denoised: Tensor, x: Tensor, name: str) -> None:
    """Raise ValueError where derivatives of a denoised image are asked for and it has none; name: of the denoiser."""
    if torch.is_grad_enabled() and x.requires_grad and not denoised.requires_grad:
        raise ValueError(
            f"prior must have a denoiser that can be differentiated, for mmps, dps and the like, got {name}; "
            "use mmps-spectral, annealed-langevin or langevin"
        )


class Prior(nn.Module):
    """A probability law of images, known through its denoiser; a subclass writes `denoise`.

    Every prior is also a deepinv denoiser, since `prior(x, sigma)` is `prior.denoise(x, sigma)`.

    image_shape: shape without batch, (C, H, W) or (d,); None where any shape is accepted.
    sigma_range: noise levels for which the denoiser is meant, in units of the data.
    evaluations: denoiser calls that one score takes. draws: white noise fields that one score takes.
    """

    image_shape: tuple[int, ...] | None = None
    sigma_range: tuple[float, float] = (0.0, math.inf)
    evaluations: int = 1
    draws: int = 0

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """Posterior mean E[X | X + sigma Z = x]. x: (B, *image_shape), sigma: float, (B,) or (B, 1, ..., 1)."""
        raise NotImplementedError

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D(x, sigma) - x = sigma^2 score(x, sigma). x: (B, *image_shape)."""
        return self.denoise(x, sigma) - x

    def score(self, x: Tensor, sigma: Sigma) -> Tensor:
        """grad log p_sigma(x) = (D(x, sigma) - x) / sigma^2 (Tweedie). x: (B, *image_shape)."""
        return self.displacement(x, sigma) / sigma_per_item(sigma, x) ** 2

    def evaluate(self, x: Tensor, sigma: Sigma, noise: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Score and denoised image from the same denoiser calls. noise: `draws` fields like x."""
        displacement = self.displacement(x, sigma)
        level = sigma_per_item(sigma, x) if isinstance(sigma, Tensor) else sigma
        return displacement / level**2, x + displacement

    def ascend(
        self, x: Tensor, sigma: float, step: float | Tensor, noise: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """x + step score(x, sigma), a new tensor, and the denoised image. step: a number or (B, 1, ..., 1)."""
        score, denoised = self.evaluate(x, sigma, noise)
        return x + step * score, denoised

    def stiffness(self, sigma: float) -> float:
        """Largest rate at which the score pulls back: its Lipschitz constant across the data, at most 1/sigma^2.

        Its inverse square root is the thickness of the cloud that Langevin dynamics settles in.
        """
        return 1 / sigma**2

    def radius(self, image_shape: tuple[int, ...]) -> float:
        """Root mean square distance of X from its mean, in units of the data; here that of images of contrast 0.25."""
        return 0.25 * math.sqrt(math.prod(image_shape))

    def forward(self, x: Tensor, sigma: Sigma, **_: object) -> Tensor:
        """The same as `denoise`: a prior is called like any deepinv denoiser, whose further arguments it ignores."""
        return self.denoise(x, sigma)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n draws of the law itself, (n, *image_shape), where the prior can give them."""
        raise NotImplementedError(f"{type(self).__name__} has no exact draws; use `inverse sample` or a sampler")

    def log_prob(self, x: Tensor, sigma: Sigma) -> Tensor:
        """log p_sigma(x), (B,), where the prior knows its density."""
        raise NotImplementedError(f"{type(self).__name__} knows its score but not its density")

    def check_shape(self, x: Tensor) -> None:
        """Raise ValueError unless x is (B, *image_shape)."""
        if self.image_shape is not None and tuple(x.shape[1:]) != tuple(self.image_shape):
            raise ValueError(
                f"x must have shape (B, {', '.join(map(str, self.image_shape))}) for this prior, got {tuple(x.shape)}"
            )
