"""Undersampled Fourier measurements (k-space), as in magnetic resonance imaging."""

from __future__ import annotations

import numpy as np
import torch
from deepinv.physics import MRI, DecomposablePhysics, LinearPhysics, NoiseModel
from torch import Tensor

from .checks import check_number, check_planar, generator
from .masks import check_mask
from .transforms import hartley2

_PLANE = (-2, -1)


class RealFourier(DecomposablePhysics):
    """k-space of real images: y = sampling * (Re F x, Im F x), F unitary and centred, as deepinv's MRI of (x, 0).

    x: (B, C, H, W) real; y: (B, 2C, H, W), the real parts of all channels before the imaginary ones, zero and without
    noise where sampling, (1, 1, H, W) or (B, 1, H, W), is 0. A^T A = F^H diag(mask^2) F is a circular convolution with
    mask^2(k) = (sampling(k) + sampling(-k)) / 2, since F x at -k is the conjugate of that at k. So V is the Hartley
    transform, and U = A V diag(1 / mask) on the modes with mask > 0, whose columns are orthonormal.
    """

    def __init__(self, img_size: tuple[int, ...], sampling: Tensor, **kwargs: object) -> None:
        uncentred = torch.fft.ifftshift(sampling, dim=_PLANE)
        mirrored = torch.roll(uncentred.flip(_PLANE), (1, 1), dims=_PLANE)
        super().__init__(img_size=img_size, mask=((uncentred + mirrored) / 2).sqrt(), **kwargs)
        self.register_buffer("sampling", sampling)

    def A(self, x: Tensor, **kwargs: object) -> Tensor:
        spectrum = torch.fft.fft2(torch.fft.ifftshift(x, dim=_PLANE), norm="ortho")
        spectrum = torch.fft.fftshift(spectrum, dim=_PLANE) * self.sampling
        return torch.cat([spectrum.real, spectrum.imag], dim=1)

    def A_adjoint(self, y: Tensor, **kwargs: object) -> Tensor:
        real, imaginary = (y * self.sampling).chunk(2, dim=1)
        spectrum = torch.fft.ifftshift(torch.complex(real, imaginary), dim=_PLANE)
        return torch.fft.fftshift(torch.fft.ifft2(spectrum, norm="ortho").real, dim=_PLANE)

    def V_adjoint(self, x: Tensor) -> Tensor:
        return hartley2(torch.fft.ifftshift(x, dim=_PLANE))

    def V(self, x: Tensor) -> Tensor:
        return torch.fft.fftshift(hartley2(x), dim=_PLANE)

    def U(self, x: Tensor) -> Tensor:
        return self.A(self.V(x * self._inverse()))

    def U_adjoint(self, x: Tensor) -> Tensor:
        return self._inverse() * self.V_adjoint(self.A_adjoint(x))

    def noise(self, x: Tensor, **kwargs: object) -> Tensor:
        """Noise on the sampled frequencies alone, as in deepinv's MRI."""
        return self.noise_model(x, **kwargs) * self.sampling

    def _inverse(self) -> Tensor:
        return torch.where(self.mask > 0, 1 / self.mask, 0.0)


def fourier(
    image_shape: tuple[int, ...],
    noise: NoiseModel,
    seed: int,
    *,
    ratio: float | None = None,
    mask: Tensor | np.ndarray | None = None,
) -> LinearPhysics:
    """Cartesian k-space lines of (C, H, W) images; y is (B, 2C, H, W), zero where nothing was sampled.

    ratio: fraction of columns of k-space that is sampled, in (0, 1], 0.25 when neither is given: a third of them in
    the centre, the others at random. mask: 0/1 over the centred k-space, (H, W), or (B, 1, H, W) with one per image.
    Images with two channels are complex, (real, imaginary), and measured by deepinv's MRI; others are real.
    """
    check_planar("fourier", image_shape)
    if ratio is not None and mask is not None:
        raise TypeError("fourier takes ratio or mask, got both; give one of them")
    plane = (1, image_shape[1], image_shape[2])
    if mask is None:
        mask = line_mask(plane, 0.25 if ratio is None else check_number("ratio", ratio, 0, 1), generator(seed))
    sampling = check_mask(mask, plane)
    if image_shape[0] == 2:
        return MRI(mask=sampling, img_size=image_shape, noise_model=noise)
    return RealFourier(image_shape, sampling, noise_model=noise)


def line_mask(plane: tuple[int, int, int], ratio: float, rng: torch.Generator) -> Tensor:
    """0/1 mask (1, H, W) with round(ratio * W) whole columns, at least one, a third of them around column W // 2."""
    width = plane[-1]
    lines = max(1, round(ratio * width))
    centre = -(-lines // 3)
    start = width // 2 - centre // 2
    outside = torch.cat([torch.arange(start), torch.arange(start + centre, width)])
    columns = torch.zeros(width)
    columns[start : start + centre] = 1
    columns[outside[torch.randperm(len(outside), generator=rng)[: lines - centre]]] = 1
    return columns.expand(plane)
