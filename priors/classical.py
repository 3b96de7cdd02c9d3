"""Denoisers that were never trained, as priors: total variation, wavelets, BM3D, the median.

Each estimates an image in [0, 1] from x = image + sigma Z, and how strongly it smooths is a stated function of sigma,
chosen once by the least squared error on crops of photographs (`benchmarks/classical_denoisers.py --tune`).

None of them is the mean E[X | x] of a law of images, and (D - x) / sigma^2 need not be the gradient of anything. It is
one for the first two, which are proximal operators (Moreau 1965): where D(x) is the u that minimises

    |x - u|^2 / 2 + lambda R(u),    with R convex and the minimum e(x), the Moreau envelope,

x - D is the gradient of e, so that (D - x) / sigma^2 is the score of exp(-e / sigma^2), and the Jacobian of D is
symmetric, with eigenvalues in [0, 1]. This is a law of its own at each sigma, not one law and the noise; with lambda in
proportion to sigma^2 it is the Moreau-Yosida envelope of one law, exp(-R) (Durmus, Moulines, Pereyra 2018, MYULA).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .base import Prior, Sigma, check_derivative, sigma_per_item

SIGMAS = (0.002, 1.0)  # from below the noise of a camera to where little of an image is left
PROBE = 0.03  # of sigma: where an error of 0.2% of sigma in D and the kinks of D weigh about the same
SMALLEST_BM3D = 9  # pixels; the library dies on 8 x 8


class Proximal(Prior):
    """A prior whose denoiser is a proximal operator: the score of exp(-e / sigma^2), e the envelope (see the module).

    weight, exponent: lambda = weight channels^(1/3) sigma^exponent.
    """

    sigma_range = SIGMAS

    def __init__(self, weight: float, exponent: float) -> None:
        super().__init__()
        self.weight, self.exponent = _above_0("weight", weight), _above_0("exponent", exponent)

    def strength(self, x: Tensor, sigma: Sigma) -> Tensor:
        """lambda, () or (B, 1, 1, 1). x: (B, C, H, W)."""
        check_image(x)
        return self.weight * x.shape[1] ** (1 / 3) * sigma_per_item(sigma, x) ** self.exponent

    def envelope(self, x: Tensor, strength: Tensor) -> Tensor:
        """e(x), (B,). x: (B, C, H, W)."""
        raise NotImplementedError

    def log_prob(self, x: Tensor, sigma: Sigma) -> Tensor:
        """-e(x) / sigma^2, (B,): the log density whose gradient is the score, up to a constant."""
        level = sigma_per_item(sigma, x)
        return -self.envelope(x, self.strength(x, sigma)) / level.reshape(-1) ** 2


class TotalVariation(Proximal):
    """Total variation: the u that minimises |x - u|^2 / 2 + lambda TV(u) (Rudin, Osher, Fatemi 1992).

    TV(u) is the sum over the pixels of the length of the gradient, differences to the right and below in all channels,
    0 beyond the edge. lambda = weight channels^(1/3) sigma^exponent, sigma the standard deviation of the noise.

    iterations: of the fast gradient projection (Beck and Teboulle 2009, Algorithm FGP), from 0 at each call, so that
    the result is a function of x alone; after 100 its error is 0.2% of sigma. A product with the Jacobian, which is
    symmetric, is a difference quotient over 3% of sigma: two more calls, and no memory for the iterations.
    For (B, C, H, W) in [0, 1], any size. Raises ValueError for other shapes and for numbers that are not above 0.
    """

    def __init__(self, weight: float = 1.31, exponent: float = 1.13, iterations: int = 100) -> None:
        super().__init__(weight, exponent)
        self.iterations = _at_least_1("iterations", iterations)

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """argmin |x - u|^2 / 2 + lambda TV(u). x: (B, C, H, W); sigma: float, (B,) or (B, 1, 1, 1)."""
        return _Differenced.apply(x, self._minimiser, self.strength(x, sigma), PROBE * sigma_per_item(sigma, x))

    def _minimiser(self, x: Tensor, strength: Tensor) -> Tensor:
        dual = ahead = torch.zeros(2, *x.shape, dtype=x.dtype, device=x.device)
        t = 1.0
        for _ in range(self.iterations):
            # 8 bounds the squared norm of the gradient.
            following = _clipped(ahead + _gradient(x - _adjoint(ahead)) / 8, strength, (0, 2))
            last, t = t, (1 + math.sqrt(1 + 4 * t**2)) / 2
            ahead, dual = following + (last - 1) / t * (following - dual), following
        return x - _adjoint(dual)

    def envelope(self, x: Tensor, strength: Tensor) -> Tensor:
        """|x - D|^2 / 2 + lambda TV(D), which for a seminorm such as TV is (|x|^2 - |D|^2) / 2; (B,)."""
        denoised = self._minimiser(x, strength)
        return ((x - denoised) * (x + denoised)).sum((1, 2, 3)) / 2


class Wavelet(Proximal):
    """Wavelets: Haar details shrunk by a threshold, at all shifts (Donoho 1995; Coifman and Donoho 1995).

    D = W^T S(W x), W the undecimated Haar transform of the mirrored image, for which W^T W = 1: S takes lambda times
    the norm of the wavelet, 2^-level, off the length of a detail over the channels, and keeps the coarsest means. It is
    a proximal operator, as thresholds in one orthonormal basis are; e is the sum of Huber functions of the details.
    lambda = weight channels^(1/3) sigma^exponent, sigma the standard deviation of the noise.

    levels: of details, at most log2 of the smaller side. Exact, differentiable.
    For (B, C, H, W) in [0, 1], any size. Raises ValueError for other shapes and for numbers that are not above 0.
    """

    def __init__(self, weight: float = 2.57, exponent: float = 1.15, levels: int = 5) -> None:
        super().__init__(weight, exponent)
        self.levels = _at_least_1("levels", levels)

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """W^T S(W x). x: (B, C, H, W); sigma: float, (B,) or (B, 1, 1, 1)."""
        strength = self.strength(x, sigma)
        means, stack = _mirrored(x), []
        for level in self._levels(x):
            means, *details = _split(means, 2**level)
            radius = strength / 2 ** (level + 1)
            stack.append([detail - _clipped(detail, radius, (1,)) for detail in details])
        for level in reversed(self._levels(x)):
            means = _merged([means, *stack.pop()], 2**level)
        return means[..., : x.shape[-2], : x.shape[-1]]

    def envelope(self, x: Tensor, strength: Tensor) -> Tensor:
        """Sum over the details d of max(|d|^2 / 2, r |d| - r^2 / 2) as |d| is below the threshold r or not, (B,)."""
        means, total = _mirrored(x), x.new_zeros(len(x))
        for level in self._levels(x):
            means, *details = _split(means, 2**level)
            radius = strength / 2 ** (level + 1)
            for detail in details:
                length = torch.linalg.vector_norm(detail, dim=1, keepdim=True)
                within = length.minimum(radius)
                total = total + (within * (length - within / 2)).sum((1, 2, 3))
        return total / 4  # the mirrored image has each pixel four times

    def _levels(self, x: Tensor) -> range:
        return range(min(self.levels, int(math.log2(min(x.shape[-2:])))))


class BM3D(Prior):
    """BM3D: similar blocks stacked and shrunk together (Dabov et al. 2007; Makinen et al. 2020 for the library).

    sigma is its sigma_psd, the standard deviation of white noise. Colour images by `bm3d_rgb`. On the processor, one
    image after the other, about a second each. It has no derivatives, so that mmps and dps cannot take it, and is no
    proximal operator: its score is not known to be the gradient of anything.

    Needs the package bm3d, which is free for non-commercial use only. Raises ImportError, with the extra, without it;
    ValueError for images that are not (B, C, H, W) or have a side below 9 pixels, and where derivatives are asked for.
    """

    sigma_range = SIGMAS

    def __init__(self) -> None:
        super().__init__()
        _bm3d()

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """bm3d(x, sigma_psd=sigma) of each image, without gradients. x: (B, C, H, W); sigma: float, (B,), ..."""
        check_image(x, SMALLEST_BM3D)
        check_derivative(x.detach(), x, "BM3D")
        library = _bm3d()
        profile = library.BM3DProfile()
        profile.num_threads = 1  # with more, the result differs from call to call
        denoised = library.bm3d_rgb if x.shape[1] == 3 else library.bm3d
        images = x.detach().permute(0, 2, 3, 1).cpu().double().numpy()
        levels = sigma_per_item(sigma, x).reshape(-1).expand(len(x)).tolist()
        arrays = [denoised(image, level, profile) for image, level in zip(images, levels, strict=True)]
        stacked = torch.stack([torch.from_numpy(array).reshape(images.shape[1:]) for array in arrays])
        return stacked.permute(0, 3, 1, 2).to(x)


class Median(Prior):
    """The median over a square window around each pixel, whose side grows with sigma.

    The side is 1 + 2 round(weight sigma^exponent) pixels, at most what reflection at the edges allows. As a function of
    sigma, D jumps where the window does. Its Jacobian takes one pixel for each pixel and is not symmetric, so that the
    score is the gradient of no log density.

    For (B, C, H, W) in [0, 1]. Raises ValueError for other shapes and for numbers that are not above 0.
    """

    sigma_range = (0.005, SIGMAS[1])

    def __init__(self, weight: float = 9.5, exponent: float = 0.5) -> None:
        super().__init__()
        self.weight, self.exponent = _above_0("weight", weight), _above_0("exponent", exponent)

    def window(self, sigma: float, side: int) -> int:
        """Side of the window, odd. sigma: of the noise. side: the image's smaller one."""
        return 1 + 2 * min(round(self.weight * sigma**self.exponent), side - 1)

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """Medians. x: (B, C, H, W); sigma: float, (B,) or (B, 1, 1, 1)."""
        from deepinv.models import MedianFilter  # trainings load this package without it

        check_image(x)
        levels = sigma_per_item(sigma, x).reshape(-1).expand(len(x)).tolist()
        windows = torch.tensor([self.window(level, min(x.shape[-2:])) for level in levels], device=x.device)
        denoised = torch.empty_like(x)
        for window in windows.unique().tolist():
            rows = windows == window
            denoised[rows] = MedianFilter(window)(x[rows])
        return denoised


BY_NAME: dict[str, type[Prior]] = {"bm3d": BM3D, "median": Median, "tv": TotalVariation, "wavelet": Wavelet}


def available() -> list[str]:
    """Names of those whose packages are installed."""
    return [name for name in BY_NAME if name != "bm3d" or importlib.util.find_spec("bm3d") is not None]


def check_image(x: Tensor, least: int = 1) -> None:
    """Raise ValueError unless x is (B, C, H, W) with sides of at least that many pixels."""
    if x.ndim != 4 or min(x.shape[1:]) < 1 or min(x.shape[2:]) < least:
        sides = f" with sides of at least {least}" if least > 1 else ""
        raise ValueError(f"x must have shape (B, C, H, W){sides} for this prior, got {tuple(x.shape)}")


def _above_0(name: str, value: float) -> float:
    if isinstance(value, bool) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number above 0, got {value}")
    return float(value)


def _at_least_1(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value}")
    return value


class _Differenced(torch.autograd.Function):
    """A function with a symmetric Jacobian, whose product with a vector is the derivative along that vector."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, function: Callable[[Tensor, Tensor], Tensor], strength: Tensor, step: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, strength, step)
        ctx.function = function
        return function(x, strength)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, vector: Tensor) -> tuple[Tensor, None, None, None]:
        x, strength, step = ctx.saved_tensors
        size = vector.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
        ahead, behind = (ctx.function(x + sign * step * (vector / size), strength) for sign in (1, -1))
        return (ahead - behind) / (2 * step) * size, None, None, None


def _gradient(u: Tensor) -> Tensor:
    """Differences to the next row and column, 0 at the last, (2, B, C, H, W)."""
    return torch.stack([F.pad(u.diff(dim=-2), (0, 0, 0, 1)), F.pad(u.diff(dim=-1), (0, 1))])


def _adjoint(p: Tensor) -> Tensor:
    """The transpose of `_gradient`, for fields that are 0 where gradients are. p: (2, B, C, H, W)."""
    return p[0].roll(1, -2) - p[0] + p[1].roll(1, -1) - p[1]


def _clipped(v: Tensor, radius: Tensor, axes: tuple[int, ...]) -> Tensor:
    """v, its vectors along the axes shortened to the radius where they are longer."""
    return v * (radius / torch.linalg.vector_norm(v, dim=axes, keepdim=True).maximum(radius))


def _mirrored(x: Tensor) -> Tensor:
    """The image continued by reflection to twice its sides, which a periodic transform closes without a jump."""
    x = torch.cat([x, x.flip(-1)], -1)
    return torch.cat([x, x.flip(-2)], -2)


def _split(means: Tensor, shift: int) -> list[Tensor]:
    """Means of pixels with those `shift` before them, and the three details, each like means."""
    bands = [means]
    for axis in (-1, -2):
        pairs = [(band, band.roll(shift, axis)) for band in bands]
        bands = [half for one, other in pairs for half in ((one + other) / 2, (one - other) / 2)]
    return bands


def _merged(bands: list[Tensor], shift: int) -> Tensor:
    """The transpose of `_split`, and its inverse."""
    for axis in (-2, -1):
        pairs = zip(bands[::2], bands[1::2], strict=True)
        bands = [(mean + detail + (mean - detail).roll(-shift, axis)) / 2 for mean, detail in pairs]
    return bands[0]


def _bm3d() -> Any:
    try:
        import bm3d
    except ImportError as error:
        raise ImportError(
            "BM3D needs the package bm3d, free for non-commercial use: pip install 'scorefold[bm3d]'"
        ) from error
    return bm3d
