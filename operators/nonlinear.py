"""Operators that are not linear: phase retrieval and saturation."""

from __future__ import annotations

import math

import torch
from deepinv.physics import LinearPhysics, NoiseModel, PhaseRetrieval, Physics
from torch import Tensor

from .checks import check_number, check_planar, generator


class CodedDiffraction(LinearPhysics):
    """Bx: m entries of unitary Fourier transforms of x behind random phase masks (Candes, Li, Soltanolkotabi 2015).

    x: (B, C, H, W) real; Bx: (B, m) complex. The adjoint is that of the map from x to pairs of real numbers.
    """

    def __init__(self, img_size: tuple[int, ...], m: int, rng: torch.Generator, **kwargs: object) -> None:
        super().__init__(img_size=img_size, **kwargs)
        patterns = math.ceil(m / math.prod(img_size))
        angle = 2 * math.pi * torch.rand(patterns, *img_size, generator=rng)
        self.register_buffer("phases", torch.stack([angle.cos(), angle.sin()], dim=-1))
        self.register_buffer("rows", torch.randperm(angle.numel(), generator=rng)[:m].sort().values)

    def A(self, x: Tensor, **kwargs: object) -> Tensor:
        masked = x[:, None] * torch.view_as_complex(self.phases)
        return torch.fft.fft2(masked, norm="ortho").flatten(1)[:, self.rows]

    def A_adjoint(self, y: Tensor, **kwargs: object) -> Tensor:
        phases = torch.view_as_complex(self.phases)
        spectra = y.new_zeros(len(y), phases.numel()).index_copy(1, self.rows, y).reshape(-1, *phases.shape)
        return (torch.fft.ifft2(spectra, norm="ortho") * phases.conj()).real.sum(dim=1)


class Saturation(Physics):
    """A(x) = min(x, level), entry by entry: a detector that reads no more than its full scale. x: any shape."""

    def __init__(self, level: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.level = level

    def A(self, x: Tensor, **kwargs: object) -> Tensor:
        return x.clamp(max=self.level)


def phase_retrieval(
    image_shape: tuple[int, ...], noise: NoiseModel, seed: int, *, ratio: float = 4.0
) -> PhaseRetrieval:
    """y = |Bx|^2 with B coded diffraction of (C, H, W) images; y: (B, m), m = round(ratio * n). ratio: above 0.

    Not linear; x and -x give the same y.
    """
    check_planar("phase-retrieval", image_shape)
    m = max(1, round(check_number("ratio", ratio, 0) * math.prod(image_shape)))
    return PhaseRetrieval(CodedDiffraction(image_shape, m, generator(seed)), noise_model=noise)


def saturation(image_shape: tuple[int, ...], noise: NoiseModel, seed: int, *, level: float = 0.8) -> Saturation:
    """y = min(x, level) + noise: values above `level` are lost. Not linear. Any image_shape. level: above 0."""
    return Saturation(check_number("level", level, 0), noise_model=noise)
