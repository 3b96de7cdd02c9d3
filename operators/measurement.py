"""Measurements: which of their entries were measured, and whether a tensor can be one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from deepinv.physics import MRI, Blur, BlurFFT, Inpainting, MultiCoilMRI, Physics, PoissonNoise
from deepinv.utils import TensorList
from torch import Tensor

from .batch import images_per_batch
from .checks import check_image_shape
from .decoded import Decoded
from .flattened import Flattened, as_real, output_of
from .fourier import RealFourier
from .linear import device_of


def measured(physics: Physics) -> Tensor | None:
    """1 where an entry of y was measured and 0 where not, broadcasting over y; None when all were.

    Masking operators keep y as large as the image, with zeros and no noise where nothing was measured.
    """
    if isinstance(physics, Decoded):
        return measured(physics.physics)
    if isinstance(physics, Flattened):
        return physics.spread([measured(part) for part in physics.parts])
    if isinstance(physics, RealFourier):
        return physics.sampling
    if isinstance(physics, (Inpainting, MRI)):
        mask = physics.mask
    elif isinstance(physics, MultiCoilMRI):
        mask = physics.mask[:, :, None]
    else:
        return None
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(
            f"mask of {type(physics).__name__} must hold only 0 and 1, since it scales the noise too, "
            f"got values from {mask.min():g} to {mask.max():g}"
        )
    if not bool(mask.any()):
        raise ValueError(f"mask of {type(physics).__name__} must keep at least one entry, got only zeros")
    return mask


def check_measurement(physics: Physics, y: Tensor | TensorList, image_shape: Sequence[int]) -> None:
    """Raise ValueError or TypeError unless y can be a batch of measurements of images of image_shape by physics.

    So that no sampler has to, it also refuses a mask that is not 0/1 or keeps nothing, and a kernel that is too large.

    y: (B, *measurement_shape), finite, float32 or float64, on the device of the physics; the shape is that of
    A applied to zeros. Of a physics with complex measurements, complex; of a StackedPhysics, a TensorList. A physics
    with parameters per image needs as many measurements.
    """
    shape = check_image_shape(image_shape)
    physics, y = as_real(physics, y, shape)
    if not isinstance(y, Tensor):
        raise TypeError(f"y must be a torch tensor (B, *measurement_shape), got {type(y).__name__}")
    if y.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"y must be float32 or float64, got {y.dtype}")
    device = device_of(physics, default=y.device)
    if y.device != device:
        raise ValueError(f"y must be on the device of the physics, {device}, got {y.device}")
    measured(physics)
    _check_kernel(physics, shape)
    expected = _measurement_shape(physics, torch.zeros(1, *shape, dtype=y.dtype, device=device))
    if tuple(y.shape) == expected:
        raise ValueError(f"y must have a batch axis, shape (B, {_listed(expected)}), got {tuple(y.shape)}")
    if y.ndim == 0 or tuple(y.shape[1:]) != expected or len(y) == 0:
        raise ValueError(
            f"y must have shape (B, {_listed(expected)}) for images of shape {shape}, got {tuple(y.shape)}"
        )
    if isinstance(physics.noise_model, PoissonNoise) and bool((y < 0).any()):
        raise ValueError(f"y must not be negative under Poisson noise, got values down to {y.min():g}")
    images = images_per_batch(physics)
    if images is not None and images != len(y):
        raise ValueError(f"y must hold {images} measurements, one per set of parameters of the physics, got {len(y)}")
    if not bool(torch.isfinite(y).all()):
        raise ValueError(f"y must be finite, got {int((~torch.isfinite(y)).sum())} NaN or infinite values")


def _check_kernel(physics: Physics, shape: Sequence[int]) -> None:
    for part in physics.parts if isinstance(physics, Flattened) else ():
        _check_kernel(part, shape)
    kernel = physics.filter if isinstance(physics, (Blur, BlurFFT)) else None
    if kernel is not None and any(k > side for k, side in zip(kernel.shape[-2:], shape[-2:], strict=True)):
        raise ValueError(
            f"kernel of {type(physics).__name__} must not be larger than the image {tuple(shape[-2:])}, "
            f"got {tuple(kernel.shape[-2:])}"
        )


def _measurement_shape(physics: Physics, zeros: Tensor) -> tuple[int, ...]:
    output = output_of(physics, zeros)
    if output.is_complex():
        raise ValueError(
            f"y must be {str(output.dtype).removeprefix('torch.')} as the physics gives it, got {zeros.dtype}; "
            "use torch.view_as_complex(y) if its last axis holds (real, imaginary)"
        )
    return tuple(output.shape[1:])


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
