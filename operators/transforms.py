"""Discrete Hartley transforms: the real, orthonormal and involutive cousins of the Fourier transform.

H x = Re(F x) - Im(F x) with the unitary F, so that H = H^T = H^-1 on real arrays. A circular convolution with
transfer function w = |w| e^{i phi} maps the Hartley mode cas(k x) = cos(k x) + sin(k x) to |w_k| cas(k x + phi_k),
which makes H the right singular basis of every circular convolution (Bracewell, The Hartley Transform, 1986).
"""

from __future__ import annotations

import torch
from torch import Tensor


def hartley(x: Tensor) -> Tensor:
    """One-dimensional orthonormal Hartley transform over the last axis, its own inverse. x: (..., n), real."""
    spectrum = torch.fft.fft(x, norm="ortho")
    return spectrum.real - spectrum.imag


def hartley2(x: Tensor) -> Tensor:
    """Two-dimensional orthonormal Hartley transform over the last two axes, its own inverse. x: (..., H, W), real."""
    spectrum = torch.fft.fft2(x, norm="ortho")
    return spectrum.real - spectrum.imag
