"""Parallel-beam tomography."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from deepinv.physics import NoiseModel, Tomography
from torch import Tensor

from .checks import check_array, check_integer
from .linear import sqnorm


def tomography(
    image_shape: tuple[int, ...],
    noise: NoiseModel,
    seed: int,
    *,
    angles: int | Sequence[float] | Tensor | np.ndarray = 60,
) -> Tomography:
    """Radon transform of square (C, H, H) images, scaled to |A| = 1; y: (B, C, detectors, angles). float32 only.

    angles: how many, equally spaced over 180 degrees, or the angles themselves in degrees. The adjoint is the exact
    one, by differentiation.
    """
    if len(image_shape) != 3 or image_shape[1] != image_shape[2] or image_shape[1] < 2:
        raise ValueError(f"image_shape must be (C, H, H), square, for tomography, got {image_shape}")
    if isinstance(angles, (int, Integral)):
        chosen: int | Tensor = check_integer("angles", int(angles), 1)
    else:
        chosen = check_array("angles", angles).float()
        if chosen.ndim != 1 or len(chosen) == 0:
            raise ValueError(f"angles must be a number of angles or a list of them, got shape {tuple(chosen.shape)}")
    physics = Tomography(angles=chosen, img_width=image_shape[1], circle=False, normalize=False, noise_model=noise)
    # The base class would find this norm from the global random state.
    norm = math.sqrt(sqnorm(physics, (1, *image_shape[1:])))
    physics.register_buffer("operator_norm", torch.tensor(norm))
    physics.normalize, physics._auto_grad_adjoint_fn = True, None
    return physics
