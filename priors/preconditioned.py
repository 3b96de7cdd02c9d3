"""A learned prior: a network trained to denoise, wrapped so that it sees and returns data of unit size.

Karras et al. 2022, "Elucidating the design space of diffusion-based generative models", Table 1 (EDM). With the mean m
and the standard deviation s of the data, r = sqrt(sigma^2 + s^2), and the network F,

    D(x, sigma) = m + c_skip (x - m) + c_out F(c_in (x - m), c_noise),
    c_skip = s^2 / r^2,   c_out = sigma s / r,   c_in = 1 / r,   c_noise = log(sigma) / 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .base import Prior, Sigma, sigma_per_item
from .unet import Labelled


class Preconditioned(Prior):
    """The prior that a denoising network has learned.

    network: (B, C, H, W), (B,) -> (B, C, H, W), such as `UNet`. mean, std: of the training data, over all pixels.
    image_shape: (C, H, W), or None for any size. sigma_range: noise levels the network was trained on.
    about: what to tell of it in words, such as name, licence, data, seed; kept in its weights file.
    inference: how the network is run, see `priors.inference.prepare`; None for as it is.
    """

    inference: str | None = None

    def __init__(
        self,
        network: nn.Module,
        mean: float,
        std: float,
        image_shape: tuple[int, ...] | None,
        sigma_range: tuple[float, float] = (0.002, 80.0),
        about: Mapping[str, str] | None = None,
    ):
        super().__init__()
        self.network = network
        self.about = dict(about or {})
        self.mean = float(mean)
        self.std = float(std)
        self.image_shape = None if image_shape is None else tuple(image_shape)
        low, high = sigma_range
        self.sigma_range = (float(low), float(high))

    def check_shape(self, x: Tensor) -> None:
        """Raise ValueError unless x is (B, *image_shape), or for any size has channels that the network knows."""
        channels = getattr(self.network, "image_channels", None)
        if self.image_shape is None and channels and (x.ndim != 4 or x.shape[1] not in channels):
            raise ValueError(
                f"x must have shape (B, C, H, W) with C {' or '.join(map(str, channels))} for this prior, "
                f"got {tuple(x.shape)}"
            )
        super().check_shape(x)

    def radius(self, image_shape: tuple[int, ...]) -> float:
        """Root mean square distance of the training data from their mean, in units of the data."""
        return self.std * math.prod(image_shape) ** 0.5

    def given(self, labels: int | Tensor) -> Preconditioned:
        """The same prior of the images of one class, or of one class for each image of a batch, (B,).

        Where the network has classes; its weights are shared. Raises ValueError where it has none, or not this one.
        """
        network = Labelled(self.network, labels)
        given = Preconditioned(network, self.mean, self.std, self.image_shape, self.sigma_range, self.about)
        given.inference = self.inference
        return given

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """E[X | X + sigma Z = x]. x: (B, *image_shape), sigma: float, (B,) or (B, 1, 1, 1)."""
        return x + self.displacement(x, sigma)

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D(x, sigma) - x = c_out F - (sigma / r)^2 (x - m), without the cancellation of D - x at small sigma."""
        self.check_shape(x)
        sigma = sigma_per_item(sigma, x)
        r = torch.sqrt(sigma**2 + self.std**2)
        centred = x - self.mean
        output = self.network(centred / r, (torch.log(sigma) / 4).expand(len(x), 1, 1, 1).reshape(-1))
        return sigma * self.std / r * output - (sigma / r) ** 2 * centred

    def target(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Input and target of the network for x = clean + sigma noise: both of unit variance, whatever sigma.

        The squared error against this target is EDM's loss with its weight (sigma^2 + s^2) / (sigma s)^2. The target
        ((clean - m) - c_skip (x - m)) / c_out = (sigma (clean - m) / s - s noise) / r is written in the form that
        does not cancel at small sigma. clean, noise: (B, C, H, W), sigma: (B, 1, 1, 1).
        """
        r = torch.sqrt(sigma**2 + self.std**2)
        centred = clean - self.mean
        return (centred + sigma * noise) / r, (sigma * centred / self.std - self.std * noise) / r
