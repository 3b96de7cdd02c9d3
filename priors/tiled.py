"""Images of any size in bounded memory: a denoiser that looks at a neighbourhood alone, applied tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .base import Prior, Sigma, sigma_per_item
from .store import load


class Tiled(Prior):
    """A prior for images of any size, denoised in overlapping tiles, of which the middles are put together.

    prior: for images of any size, or its name or file for `priors.load`. side: of a tile, pixels. overlap: what it sees
    of its neighbours on each side, pixels. step: tiles start at multiples of it, 2^n for a network that halves the
    resolution n times, for its grid.
    Where what the denoiser says of a pixel depends on the image within `overlap` pixels alone, the result is that of
    the whole image; where it hardly depends on more, as with trained networks, nearly. For derivatives each tile is
    computed again, so that memory is that of one tile.
    Raises ValueError for a prior of one image shape, and for tiles that would not reach beyond their overlap; TypeError
    for what is no prior.
    """

    image_shape = None

    def __init__(self, prior: Prior | str | Path, side: int = 640, overlap: int = 96, step: int = 8) -> None:
        super().__init__()
        if isinstance(prior, str | Path):
            prior = load(prior)
        if not isinstance(prior, Prior):
            raise TypeError(
                f"prior must be a Prior or a name of priors.available(), got {type(prior).__name__}; "
                "priors.Denoiser makes one of a deepinv denoiser"
            )
        if prior.image_shape is not None:
            raise ValueError(f"prior must be one for images of any size, got one for {tuple(prior.image_shape)}")
        if overlap < 0 or overlap % step or side % step or side <= 2 * overlap:
            raise ValueError(
                f"side and overlap must be multiples of {step}, side above twice the overlap, got {side} and {overlap}"
            )
        self.prior, self.side, self.overlap = prior, side, overlap
        self.sigma_range = prior.sigma_range
        self.about = getattr(prior, "about", {})
        self.inference = getattr(prior, "inference", None)

    def radius(self, image_shape: tuple[int, ...]) -> float:
        return self.prior.radius(image_shape)

    def stiffness(self, sigma: float) -> float:
        return self.prior.stiffness(sigma)

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D(x, sigma) - x, tile by tile. x: (B, C, H, W), sigma: float, (B,) or (B, 1, 1, 1)."""
        if max(x.shape[-2:]) <= self.side:
            return self.prior.displacement(x, sigma)
        sigma = sigma_per_item(sigma, x)
        rows, columns = (list(self.parts(length)) for length in x.shape[-2:])
        return torch.cat(
            [torch.cat([self._tile(x, sigma, row, column) for column in columns], dim=-1) for row in rows], dim=-2
        )

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """E[X | X + sigma Z = x]. x: (B, C, H, W), sigma: float, (B,) or (B, 1, 1, 1)."""
        return x + self.displacement(x, sigma)

    def parts(self, length: int) -> Iterator[tuple[slice, slice]]:
        """Of an axis of that length: where each tile is read, and which part of it is kept."""
        start = 0
        while True:
            first = max(0, start - self.overlap)
            last = min(length, first + self.side)
            end = length if last == length else last - self.overlap
            yield slice(first, last), slice(start - first, end - first)
            if end == length:
                return
            start = end

    def _tile(self, x: Tensor, sigma: Tensor, row: tuple[slice, slice], column: tuple[slice, slice]) -> Tensor:
        tile = x[..., row[0], column[0]]
        if torch.is_grad_enabled() and x.requires_grad:
            displacement = checkpoint(self.prior.displacement, tile, sigma, use_reentrant=False)
        else:
            displacement = self.prior.displacement(tile, sigma)
        return displacement[..., row[1], column[1]]
