"""Low-pass filtering and decimation: super-resolution."""

from __future__ import annotations

import torch
from deepinv.physics import Downsampling, NoiseModel
from torch import Tensor

from .checks import check_integer, check_planar
from .noise import countable

FILTERS = ("bicubic", "bilinear", "gaussian", "sinc")


class SuperResolution(Downsampling):
    """deepinv's circular Downsampling with its filter applied by a stored spectrum.

    The base class convolves by shifts and transforms the filter anew at each call; the stored spectrum that its prox_l2
    needs serves A and A^T several times faster.
    """

    def __init__(self, img_size: tuple[int, ...], **kwargs: object) -> None:
        super().__init__(img_size, padding="circular", **kwargs)
        half = self.Fh[..., : img_size[-1] // 2 + 1]
        self.register_buffer("transfer", torch.view_as_real(half.contiguous()))

    def A(self, x: Tensor, **kwargs: object) -> Tensor:
        """x: (B, C, H, W) to (B, C, H / factor, W / factor)."""
        spectrum = torch.fft.rfft2(x) * torch.view_as_complex(self.transfer)
        return torch.fft.irfft2(spectrum, s=x.shape[-2:])[..., :: self.factor, :: self.factor]

    def A_adjoint(self, y: Tensor, **kwargs: object) -> Tensor:
        """y: (B, C, H / factor, W / factor) to (B, C, H, W)."""
        spread = y.new_zeros(*y.shape[:-2], *self.imsize[-2:])
        spread[..., :: self.factor, :: self.factor] = y
        spectrum = torch.fft.rfft2(spread) * torch.view_as_complex(self.transfer).conj()
        return torch.fft.irfft2(spectrum, s=spread.shape[-2:])

    def noise(self, x: Tensor, **kwargs: object) -> Tensor:
        """x = A(image) with noise, its rounding below 0 not held against Poisson noise."""
        return super().noise(countable(x, self.noise_model), **kwargs)


def super_resolution(
    image_shape: tuple[int, ...], noise: NoiseModel, seed: int, *, factor: int = 2, filter: str = "bicubic"
) -> SuperResolution:
    """y is x filtered (circular boundary) and decimated, (B, C, H / factor, W / factor).

    factor: an integer of at least 1 that divides both sides. filter: bicubic, bilinear, gaussian or sinc.
    """
    check_planar("super-resolution", image_shape)
    factor = check_integer("factor", factor, 1)
    height, width = image_shape[1:]
    if height % factor or width % factor:
        raise ValueError(f"factor must divide both sides of the image, {height} and {width}, got {factor}")
    if filter not in FILTERS:
        raise ValueError(f"filter must be one of {', '.join(FILTERS)}, got {filter!r}")
    size = max(Downsampling.get_filter_parameters((1, 512, 512), filter, factor)["filter"].shape)
    if size > min(height, width):
        raise ValueError(
            f"factor must give a {filter} filter no larger than the image of {height, width} pixels, "
            f"got factor {factor} with a filter of {size, size}"
        )
    return SuperResolution(image_shape, filter=filter, factor=factor, noise_model=noise)
