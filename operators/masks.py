"""Operators that keep some entries of the image: inpainting, box-inpainting, demosaicing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from deepinv.physics import Demosaicing, Denoising, Inpainting, NoiseModel
from torch import Tensor

from .checks import check_array, check_integer, check_number, check_planar, generator


def denoising(image_shape: tuple[int, ...], noise: NoiseModel, seed: int) -> Denoising:
    """A x = x. Any image_shape."""
    return Denoising(noise_model=noise, img_size=image_shape)


def inpainting(
    image_shape: tuple[int, ...],
    noise: NoiseModel,
    seed: int,
    *,
    keep: float | None = None,
    mask: Tensor | np.ndarray | None = None,
) -> Inpainting:
    """A x = mask * x; entries that were not kept are 0 in y, without noise.

    keep: fraction of pixels kept, in (0, 1], 0.5 when neither is given; drawn from seed without replacement, the
    same pixels in all channels. mask: 0/1 (or bool), shape image_shape, (H, W), or (B, *image_shape), (B, 1, H, W)
    for one mask per image. Raises TypeError when both are given.
    """
    if keep is not None and mask is not None:
        raise TypeError("inpainting takes keep or mask, got both; give one of them")
    if mask is None:
        mask = random_mask(image_shape, 0.5 if keep is None else check_number("keep", keep, 0, 1), seed)
    return Inpainting(img_size=image_shape, mask=check_mask(mask, image_shape), noise_model=noise)


def random_mask(image_shape: tuple[int, ...], keep: float, seed: int) -> Tensor:
    """0/1 mask with round(keep * pixels) ones, at least one, at uniformly random pixels. Shape image_shape."""
    plane = image_shape[-2:]
    pixels = math.prod(plane)
    mask = torch.zeros(pixels)
    mask[torch.randperm(pixels, generator=generator(seed))[: max(1, round(keep * pixels))]] = 1
    return mask.reshape(plane).expand(image_shape)


def check_mask(mask: Tensor | np.ndarray, image_shape: tuple[int, ...]) -> Tensor:
    """mask as a float tensor (b, *image_shape), b = 1 or one per image; ValueError unless it is one."""
    values = check_array("mask", mask).to(torch.get_default_dtype())
    if values.numel() and not bool(((values == 0) | (values == 1)).all()):
        raise ValueError(f"mask must hold only 0 and 1, got values from {values.min():g} to {values.max():g}")
    shape = tuple(values.shape)
    if len(image_shape) == 3 and values.ndim == 2:
        values = values[None]
    if values.ndim == len(image_shape):
        values = values[None]
    channels = (1, image_shape[0]) if len(image_shape) == 3 else image_shape
    if 0 in shape or values.ndim != len(image_shape) + 1 or values.shape[1] not in channels:
        raise ValueError(_mask_shape_error(image_shape, shape))
    if tuple(values.shape[2:]) != image_shape[1:]:
        raise ValueError(_mask_shape_error(image_shape, shape))
    values = values.expand(len(values), *image_shape)
    if not bool(values.flatten(1).any(dim=1).all()):
        raise ValueError("mask must keep at least one entry of each image, got a mask of all zeros")
    return values.contiguous()


def _mask_shape_error(image_shape: tuple[int, ...], shape: tuple[int, ...]) -> str:
    listed = ", ".join(map(str, image_shape))
    plane = f", ({listed.split(', ', 1)[1]})" if len(image_shape) == 3 else ""
    return f"mask must have shape ({listed}){plane} or (B, {listed}), got {shape}"


def box_inpainting(
    image_shape: tuple[int, ...], noise: NoiseModel, seed: int, *, size: int | Sequence[int] | None = None
) -> Inpainting:
    """Inpainting with a centred box missing in all channels. (C, H, W) images.

    size: side of the box in pixels, an integer or (height, width); default: half the image on each side. The box must
    leave some pixels: ValueError otherwise.
    """
    check_planar("box-inpainting", image_shape)
    plane = image_shape[1:]
    if size is None:
        size = tuple(max(1, side // 2) for side in plane)
    sides = size if isinstance(size, Sequence) else (size, size)
    if isinstance(size, str) or len(sides) != 2:
        raise TypeError(f"size must be an integer or (height, width), got {size!r}")
    height, width = (check_integer("size", side, 1) for side in sides)
    if height > plane[0] or width > plane[1] or (height, width) == plane:
        raise ValueError(f"size must be a box inside the image and smaller than its {plane} pixels, got {size}")
    mask = torch.ones(image_shape)
    top, left = (plane[0] - height) // 2, (plane[1] - width) // 2
    mask[:, top : top + height, left : left + width] = 0
    return Inpainting(img_size=image_shape, mask=mask, noise_model=noise)


def demosaicing(image_shape: tuple[int, ...], noise: NoiseModel, seed: int) -> Demosaicing:
    """One colour per pixel in the Bayer pattern, of (3, H, W) images."""
    if len(image_shape) != 3 or image_shape[0] != 3:
        raise ValueError(f"image_shape must be (3, H, W) for demosaicing, got {image_shape}")
    return Demosaicing(img_size=image_shape, noise_model=noise)
