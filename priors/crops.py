"""Crops of images of any size, at several scales, turned and mirrored: what a prior for any size is trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LUMINANCE = (0.2125, 0.7154, 0.0721)  # ITU-R BT.709, as in scikit-image


class Crops:
    """Square crops of images at several scales: training data without an end.

    images: uint8 (C, H, W), C = 1 or 3 the same for all. size: side of a crop, pixels. scales: those at which every
    image is seen, 1 its own; an image too small for a crop at a scale is left out there. grey_share: the fraction of
    the batches of colour images that is made grey; each batch is all grey or all colour.
    An image at a scale is as likely as its side is long, so that small ones are seen, but not again and again; a crop
    is turned by a multiple of 90 degrees and mirrored at random.
    Raises ValueError for other numbers, and where no image is large enough.
    """

    image_shape = None

    def __init__(
        self,
        images: Sequence[Tensor],
        size: int = 64,
        scales: Sequence[float] = (1.0, 1 / 2, 1 / 4),
        grey_share: float = 0.5,
    ):
        if size < 1 or not 0 <= grey_share <= 1:
            raise ValueError(f"size must be at least 1 and grey_share in [0, 1], got {size} and {grey_share}")
        if not scales or not all(0 < scale <= 1 for scale in scales):
            raise ValueError(f"scales must be numbers above 0 and at most 1, got {list(scales)}")
        depths = {len(image) for image in images}
        if len(depths) > 1 or not depths <= {1, 3}:
            raise ValueError(f"images must all have 1 channel or all have 3, got {sorted(depths)}")
        self.size = size
        sized = (smaller(image, scale) for scale in scales for image in images)
        self.images = [image for image in sized if min(image.shape[1:]) >= size]
        if not self.images:
            raise ValueError(f"images must have at least {size / max(scales):.0f} pixels a side, got none that large")
        self.colour = depths == {3}
        self.grey_share = grey_share if self.colour else 1.0
        sides = np.sqrt([math.prod(side - size + 1 for side in image.shape[1:]) for image in self.images])
        self._cumulative = sides.cumsum() / sides.sum()

    @property
    def channels(self) -> tuple[int, ...]:
        """Numbers of channels that batches have: (1,), (3,) or (1, 3)."""
        return ((1,) if self.grey_share > 0 else ()) + ((3,) if self.grey_share < 1 else ())

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation over all pixels, in [0, 1]."""
        count = sum(image.numel() for image in self.images)
        mean = sum(float(image.sum(dtype=torch.int64)) for image in self.images) / count
        square = sum(float((image.float() - mean).square().mean()) * image.numel() for image in self.images) / count
        return mean / 255, math.sqrt(square) / 255

    def batch(self, count: int, seed: int, step: int) -> Tensor:
        """The crops of a step, (count, 1 or 3, size, size) float32 in [0, 1]."""
        random = np.random.default_rng((seed, 5, step))
        made_grey = random.random() < self.grey_share
        crops = torch.stack([self._crop(random) for _ in range(count)]).float() / 255
        return grey(crops) if made_grey and self.colour else crops

    def of(self, channels: int, count: int, seed: int) -> Tensor:
        """count crops outside the order of training, (count, channels, size, size) float32 in [0, 1]."""
        random = np.random.default_rng((seed, 6))
        crops = torch.stack([self._crop(random) for _ in range(count)]).float() / 255
        return grey(crops) if channels == 1 and self.colour else crops

    def _crop(self, random: np.random.Generator) -> Tensor:
        image = self.images[min(int(self._cumulative.searchsorted(random.random())), len(self.images) - 1)]
        top, left = (random.integers(side - self.size + 1) for side in image.shape[1:])
        crop = image[:, top : top + self.size, left : left + self.size]
        crop = torch.rot90(crop, int(random.integers(4)), (1, 2))
        return crop.flip(2) if random.integers(2) else crop


def smaller(image: Tensor, scale: float) -> Tensor:
    """image (C, H, W), uint8, at a scale of at most 1: means over the area of each new pixel."""
    if scale == 1:
        return image
    shape = [max(1, round(scale * side)) for side in image.shape[1:]]
    return F.interpolate(image[None].float(), shape, mode="area")[0].round().to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """Luminance of colour images, (B, 3, H, W) -> (B, 1, H, W)."""
    return (images * images.new_tensor(LUMINANCE).reshape(3, 1, 1)).sum(1, keepdim=True)
