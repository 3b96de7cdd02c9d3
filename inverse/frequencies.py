"""Functions of the modulus of space frequency, as covariances of images: how they filter, and how they are measured."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

KNOTS = 24


@functools.lru_cache(maxsize=8)
def frequencies_of(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Frequencies:
    """The frequencies of images of shape (C, H, W), made once."""
    return Frequencies(shape, device, dtype)


class Frequencies:
    """The frequencies of images of one shape, and functions of their modulus, by their values at knots.

    Channels are turned by the orthonormal cosine transform: for colours into luminance, red - blue, and green - others,
    which are nearly uncorrelated in natural images.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> None:
        channels, self.height, self.width = shape
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        order, place = torch.arange(channels, **options)[:, None], torch.arange(channels, **options)
        self.turn = torch.nn.functional.normalize(torch.cos(math.pi / channels * (place + 0.5) * order), dim=1)
        columns = torch.fft.rfftfreq(self.width, **options)
        modulus = torch.hypot(torch.fft.fftfreq(self.height, **options)[:, None], columns)
        # Each column but the first, and the last of an even width, stands for its mirror image too.
        self.count = torch.where((columns == 0) | (columns == 0.5), 1.0, 2.0).expand_as(modulus)
        self.knots = min(KNOTS, min(shape[1:]) // 2 + 1)
        lowest = 1 / max(shape[1:])
        place = (modulus / lowest).clamp(min=1).log() / math.log(0.5**0.5 / lowest) * (self.knots - 1)
        self.below = place.long().clamp(max=max(self.knots - 2, 0))
        self.above = (self.below + 1).clamp(max=self.knots - 1)
        self.share = place - self.below

    def spectrum(self, values: Tensor) -> Tensor:
        """(C, knots) -> (C, H, W // 2 + 1), linear in the logarithm of the modulus."""
        return torch.lerp(values[:, self.below], values[:, self.above], self.share)

    def forward(self, x: Tensor) -> Tensor:
        """Coefficients of (N, C, H, W), orthonormal."""
        return torch.fft.rfft2(torch.einsum("dc,nchw->ndhw", self.turn, x), norm="ortho")

    def inverse(self, coefficients: Tensor) -> Tensor:
        turned = torch.fft.irfft2(coefficients, s=(self.height, self.width), norm="ortho")
        return torch.einsum("dc,ndhw->nchw", self.turn, turned)

    def filtered(self, x: Tensor, spectrum: Tensor) -> Tensor:
        """F* diag(spectrum) F x."""
        return self.inverse(spectrum * self.forward(x))

    def probe(self, noise: Tensor) -> Tensor:
        """White noise (N, C, H, W) with every coefficient of modulus 1."""
        coefficients = self.forward(noise)
        return self.inverse(coefficients / coefficients.abs())

    def response(self, probe: Tensor, answer: Tensor) -> Tensor:
        """Re conj(F probe) F answer, mean over the batch, (C, H, W // 2 + 1)."""
        return (self.forward(probe).conj() * self.forward(answer)).real.mean(0)

    def gain(self, probe: Tensor, answer: Tensor) -> Tensor:
        """Mean of the response about each knot, (C, knots), kept above 0."""
        found = self.response(probe, answer)
        total, weight = (found.new_zeros(len(found), self.knots) for _ in range(2))
        for knot, share in ((self.below, 1 - self.share), (self.above, self.share)):
            index, each = knot.flatten().expand(len(found), -1), (self.count * share).flatten()
            total.scatter_add_(1, index, each * found.flatten(1))
            weight.scatter_add_(1, index, each.expand_as(index))
        return (total / weight.clamp(min=1e-12)).clamp(min=1e-6)
