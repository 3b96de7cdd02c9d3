"""A data set as a prior: the kernel mixture over its images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .gaussian_mixture import GaussianMixture


class Empirical(GaussianMixture):
    """p(x) = 1/N sum_i N(x; x_i, bandwidth^2 I) over a data set.

    D(x, sigma) = sum_i r_i (x_i + (x - x_i) h^2 / s), r = softmax(-|x - x_i|^2 / 2s), s = h^2 + sigma^2, h = bandwidth.
    With bandwidth 0 this is the exact denoiser of the training set, the one a network that memorises would learn.
    Images are denoised in blocks: 60,000 images of 28x28 need less than 2 GiB.

    data: (N, *image_shape). bandwidth: standard deviation of the kernel in units of the data, finite and >= 0.
    Raises ValueError on any other bandwidth.
    """

    def __init__(self, data: Tensor, bandwidth: float) -> None:
        if not (math.isfinite(bandwidth) and bandwidth >= 0):
            raise ValueError(f"bandwidth must be finite and at least 0, got {bandwidth}")
        super().__init__(data, torch.full((len(data),), bandwidth**2, dtype=data.dtype, device=data.device))
        self.bandwidth = float(bandwidth)
