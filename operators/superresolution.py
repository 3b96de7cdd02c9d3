"""Low-pass filtering and decimation: super-resolution."""

from __future__ import annotations

from typing import Any

import torch
from deepinv.physics import DecomposablePhysics, Downsampling, LinearPhysics, NoiseModel
from deepinv.physics.functional import filter_fft
from torch import Tensor

from .checks import check_integer, check_planar
from .noise import countable
from .transforms import hartley2

FILTERS = ("bicubic", "bilinear", "gaussian", "sinc")


class SuperResolution(Downsampling, DecomposablePhysics):
    """deepinv's circular Downsampling, A = D W, with its filter W applied by a stored spectrum, and with its SVD.

    The base class convolves by shifts and transforms the filter anew at each call; the stored spectrum that its prox_l2
    needs serves A and A^T several times faster.

    A A^T is a circular convolution of small images with transfer function p = mean of |w|^2 over the factor^2 aliases
    of a frequency. So A = U diag(mask) V^T, where coefficients have the shape of x: those at [::factor, ::factor] carry
    mask = sqrt(p), and U takes them through the Hartley transform H and an all-pass filter; the others span the null
    space of A. V = Q H, H on those coefficients alone, is square and orthonormal, as deepinv's DDRM and prox_l2 need it
    to be: Q is the block reflector that maps D^T to the normalised rows of A (Schreiber and Parlett, Block reflectors,
    1988), again made of convolutions.
    """

    def __init__(self, img_size: tuple[int, ...], **kwargs: object) -> None:
        super().__init__(img_size, padding="circular", **kwargs)
        self.img_size = img_size
        self._follow_filter()

    def _follow_filter(self) -> None:
        half = filter_fft(self.filter, self.img_size, real_fft=False)[..., : self.img_size[-1] // 2 + 1]
        self.register_buffer("transfer", torch.view_as_real(half.contiguous()))
        for name, value in _decomposition(self.filter, self.img_size, self.factor).items():
            self.register_buffer(name, value)

    def update_parameters(
        self, filter: Tensor | str | None = None, factor: int | None = None, **kwargs: object
    ) -> None:
        """deepinv's; the spectra and the SVD follow the filter."""
        if filter is None and factor is None:  # deepinv's would transform the present filter again
            return LinearPhysics.update_parameters(self, **kwargs)
        super().update_parameters(filter=filter, factor=factor, **kwargs)
        self._follow_filter()

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        """x: (B, C, H, W) to (B, C, H / factor, W / factor). kwargs: new parameters, as in every deepinv physics."""
        if kwargs:
            self.update_parameters(**kwargs)
        return self._decimate(x, self.transfer)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        """y: (B, C, H / factor, W / factor) to (B, C, H, W)."""
        if kwargs:
            self.update_parameters(**kwargs)
        return self._spread(y, self.transfer)

    A_adjoint_A = LinearPhysics.A_adjoint_A  # DecomposablePhysics would take the longer way through V

    def A_A_adjoint(self, y: Tensor, **kwargs: object) -> Tensor:
        """A A^T y, a convolution of small images."""
        columns = self.factor * (y.shape[-1] // 2) + 1
        power = self.mask[..., :: self.factor, : columns : self.factor].square()
        return torch.fft.irfft2(torch.fft.rfft2(y) * power, s=y.shape[-2:])

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float, **kwargs: object) -> Tensor:
        """deepinv's closed form (Downsampling); through the SVD where a change of precision broke its spectra."""
        if self.Fh.is_complex():
            return super().prox_l2(z, y, gamma, **kwargs)
        return DecomposablePhysics.prox_l2(self, z, y, gamma, **kwargs)

    def V_adjoint(self, x: Tensor) -> Tensor:
        return self._small_hartley(self._reflect(x))

    def V(self, x: Tensor) -> Tensor:
        return self._reflect(self._small_hartley(x))

    def U(self, x: Tensor) -> Tensor:
        return self._all_pass(hartley2(x[..., :: self.factor, :: self.factor]))

    def U_adjoint(self, x: Tensor) -> Tensor:
        return self._zeros_between(hartley2(self._all_pass(x, adjoint=True)))

    def _decimate(self, x: Tensor, transfer: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x) * torch.view_as_complex(transfer)
        return torch.fft.irfft2(spectrum, s=x.shape[-2:])[..., :: self.factor, :: self.factor]

    def _spread(self, y: Tensor, transfer: Tensor) -> Tensor:
        """The adjoint of _decimate."""
        spread = self._zeros_between(y)
        spectrum = torch.fft.rfft2(spread) * torch.view_as_complex(transfer).conj()
        return torch.fft.irfft2(spectrum, s=spread.shape[-2:])

    def _zeros_between(self, y: Tensor) -> Tensor:
        spread = y.new_zeros(*y.shape[:-2], *self.imsize[-2:])
        spread[..., :: self.factor, :: self.factor] = y
        return spread

    def _all_pass(self, y: Tensor, adjoint: bool = False) -> Tensor:
        angle = torch.view_as_complex(self.angle)
        return torch.fft.irfft2(torch.fft.rfft2(y) * (angle.conj() if adjoint else angle), s=y.shape[-2:])

    def _small_hartley(self, x: Tensor) -> Tensor:
        """The Hartley transform of the coefficients [::factor, ::factor] alone."""
        x = x.clone()
        x[..., :: self.factor, :: self.factor] = hartley2(x[..., :: self.factor, :: self.factor])
        return x

    def _reflect(self, x: Tensor) -> Tensor:
        """Q x = x - R^T R x, with R R^T = 2 (0 at frequencies that A does not pass): symmetric and orthogonal."""
        return x - self._spread(self._decimate(x, self.reflector), self.reflector)

    def noise(self, x: Tensor, **kwargs: object) -> Tensor:
        """x = A(image) with noise, its rounding below 0 not held against Poisson noise."""
        return super().noise(countable(x, self.noise_model), **kwargs)


def _decomposition(filter: Tensor, img_size: tuple[int, ...], factor: int) -> dict[str, Tensor]:
    """mask (1, C, H, W), and half spectra as pairs of real numbers: angle of U, reflector of V.

    With the transfer function w, its aliases' mean q (that of D W D^T), p the mean of |w|^2, and s = q / |q|, the
    normalised rows E = -A^T s / sqrt(p) have D E = -|q| / sqrt(p), which is symmetric, so that I - B^T 2 (B B^T)^-1 B
    with B = (E - D^T)^T maps D^T to E; its sign keeps B B^T = 2 + 2 |q| / sqrt(p) from 0.
    """
    rows, columns = img_size[-2] // factor, img_size[-1] // factor
    spectrum = filter_fft(filter.double(), img_size, real_fft=False, dims=(-2, -1))
    aliases = spectrum.unflatten(-1, (factor, columns)).unflatten(-3, (factor, rows))
    values = aliases.abs().square().mean((-4, -2)).sqrt()
    mean = aliases.mean((-4, -2))
    rounding = torch.finfo(filter.dtype).eps
    passed = values > rounding * values.max()
    values = torch.where(passed, values, 0.0)
    angle = torch.where(passed & (mean.abs() > rounding * values), mean / mean.abs(), 1.0)
    half = img_size[-1] // 2 + 1
    scaled, share = angle / values, 1 + mean.abs() / values
    scaled, share, passed = (part.tile(factor, factor)[..., :half] for part in (scaled, share, passed))
    reflector = torch.where(passed, (1 + spectrum[..., :half] * scaled.conj()) / share.sqrt(), 0.0)
    mask = filter.new_zeros(values.shape[0], *img_size)
    mask[..., ::factor, ::factor] = values
    spectra = {"angle": -angle[..., : columns // 2 + 1].contiguous(), "reflector": reflector}
    return {"mask": mask, **{name: torch.view_as_real(value).to(filter.dtype) for name, value in spectra.items()}}


def super_resolution(
    image_shape: tuple[int, ...], noise: NoiseModel, seed: int, *, factor: int = 2, filter: str = "bicubic"
) -> SuperResolution:
    """y is x filtered (circular boundary) and decimated, (B, C, H / factor, W / factor); with its SVD.

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
