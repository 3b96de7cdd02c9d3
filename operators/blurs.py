"""Convolutions: blurs with a true singular-value decomposition, circular or separable, and the kernels."""

from __future__ import annotations

import math

import numpy as np
import torch
from deepinv.physics import Blur, BlurFFT, DecomposablePhysics, LinearPhysics, NoiseModel
from deepinv.physics.functional import filter_fft
from torch import Tensor
from torch.nn.functional import conv1d, pad

from .checks import check_array, check_number, check_planar
from .noise import countable
from .transforms import hartley2

PADDINGS = ("circular", "reflect", "replicate", "zeros", "valid")
# Images up to this many pixels a side are multiplied by matrices, where the kernel is a row times a column: twice as
# fast as FFTs on 64 pixels, as fast on 96 to 128.
MATRIX_SIDE = 96
SVD_SIDE = 512  # largest side of an image for the SVDs of a separable blur's two matrices, 0.15 s each; less for many


class CircularBlur(BlurFFT):
    """Circular convolution: two real FFTs per product, or two small matrices; BlurFFT takes detours through its SVD.

    Unlike BlurFFT's half spectrum, whose V is no isometry, the SVD A = U diag(mask) V^T is one of real orthonormal
    matrices: V = H, the Hartley transform; mask = |w| (1, C, H, W) the modulus of the transfer function w; U = P H with
    P the all-pass filter w / |w|. filter: (b, 1 or C, h, w), centred at (h // 2, w // 2), b = 1 or one per image.
    """

    def __init__(self, img_size: tuple[int, ...], filter: Tensor, **kwargs: object) -> None:
        super().__init__(img_size=img_size, filter=filter, **kwargs)
        for name, value in self.get_filter_parameters(img_size, filter).items():
            self.register_buffer(name, value)

    @staticmethod
    def get_filter_parameters(
        img_size: tuple[int, ...], filter: Tensor | None, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor | None]:
        """filter and, of its spectrum w: mask (full), angle w / |w|, transfer w and power |w|^2 (half, as of rfft2).

        Complex ones are kept as pairs of real numbers, since physics.to(torch.float64) would drop imaginary parts.
        rows and columns: A x = rows x columns for small images and a kernel that is a column times a row, else empty.
        """
        if filter is None:
            return {}
        filter = filter.to(device)
        filter = filter.expand(-1, img_size[0], -1, -1)
        spectrum = filter_fft(filter, img_size, real_fft=False, dims=(-2, -1))
        half = spectrum[..., : img_size[-1] // 2 + 1].contiguous()
        angle = torch.where(half == 0, 1.0, half / half.abs())
        pairs = {"angle": torch.view_as_real(angle), "transfer": torch.view_as_real(half)}
        rows, columns = _factors(filter, img_size)
        factors = {"rows": rows, "columns": columns, "row_gram": rows.mT @ rows, "column_gram": columns @ columns.mT}
        factors = {name: factor.expand(img_size[0], -1, -1) for name, factor in factors.items()}
        return {"filter": filter, "mask": spectrum.abs(), "power": half.abs().square(), **pairs, **factors}

    # Beside a small network, the products of one small image take less time than self.rows, which torch looks up in
    # Python, and than matmul's way to them: hence _buffers and bmm.
    def _separable(self, x: Tensor) -> bool:
        """Whether x is multiplied by `rows` and `columns`; FFTs take images of any precision."""
        rows = self._buffers["rows"]
        return rows.numel() > 0 and rows.dtype == x.dtype

    def _between(self, left: Tensor, x: Tensor, right: Tensor) -> Tensor:
        """left x right in each channel. x: (B, C, H, W), left: (C, H, H), right: (C, W, W)."""
        if x.shape[0] != 1:
            return left @ x @ right
        return torch.bmm(torch.bmm(left, x.view(self.img_size)), right).view(1, *self.img_size)

    def _convolve(self, x: Tensor, transfer: Tensor, adjoint: bool = False) -> Tensor:
        transfer = torch.view_as_complex(transfer)
        return torch.fft.irfft2(torch.fft.rfft2(x) * (transfer.conj() if adjoint else transfer), s=self.img_size[-2:])

    def A(self, x: Tensor, filter: Tensor | None = None, **kwargs: object) -> Tensor:
        """w * x, x: (B, C, H, W). filter replaces the current one, as in every deepinv physics."""
        if filter is not None:
            self.update_parameters(filter=filter)
        if self._separable(x):
            return self._between(self._buffers["rows"], x, self._buffers["columns"])
        return self._convolve(x, self.transfer)

    def A_adjoint(self, y: Tensor, filter: Tensor | None = None, **kwargs: object) -> Tensor:
        """Correlation with the filter, y: (B, C, H, W)."""
        if filter is not None:
            self.update_parameters(filter=filter)
        if self._separable(y):
            return self._between(self._buffers["rows"].mT, y, self._buffers["columns"].mT)
        return self._convolve(y, self.transfer, adjoint=True)

    def noise(self, x: Tensor, **kwargs: object) -> Tensor:
        """x = A(image) with noise, its rounding below 0 not held against Poisson noise."""
        return super().noise(countable(x, self.noise_model), **kwargs)

    def A_adjoint_A(self, x: Tensor, **kwargs: object) -> Tensor:
        """A^T A x in one pair of FFTs, or of products with matrices."""
        if self._separable(x):
            return self._between(self._buffers["row_gram"], x, self._buffers["column_gram"])
        return torch.fft.irfft2(torch.fft.rfft2(x).mul_(self.power), s=self.img_size[-2:])

    def A_A_adjoint(self, y: Tensor, **kwargs: object) -> Tensor:
        """A A^T y, the same as A^T A y: circular convolutions commute."""
        return self.A_adjoint_A(y)

    def V_adjoint(self, x: Tensor) -> Tensor:
        return hartley2(x)

    def V(self, x: Tensor) -> Tensor:
        return hartley2(x)

    def U(self, x: Tensor) -> Tensor:
        return self._convolve(hartley2(x), self.angle)

    def U_adjoint(self, x: Tensor) -> Tensor:
        return hartley2(self._convolve(x, self.angle, adjoint=True))


class SeparableBlur(Blur, DecomposablePhysics):
    """deepinv's Blur by kernels that are a column times a row, for images of one shape, with its SVD.

    The edges are padded along each axis alone, whatever the padding, so that A x = R x C^T in each channel, with R and
    C the `vertical` and `horizontal` one-dimensional convolutions. Their SVDs R = U_R diag(s_R) V_R^T, alike for C,
    give that of A: V x = V_R x V_C^T, U x = U_R x U_C^T and mask (b, C, H, W) with s_R s_C^T in each channel.
    Coefficients have the shape of the image; where y is smaller (padding "valid"), s_R, s_C and U_R, U_C end in zeros.
    filter: (b, 1 or C, h, w), b = 1 or one per image.
    """

    def __init__(self, img_size: tuple[int, ...], filter: Tensor, padding: str, **kwargs: object) -> None:
        super().__init__(filter=filter, padding=padding, img_size=img_size, **kwargs)
        self._decompose(filter)

    @torch.no_grad()
    def _decompose(self, filter: Tensor) -> None:
        sides, lines = self.img_size[-2:], _lines(filter)
        if lines is None or filter.shape[-2] > sides[0] or filter.shape[-1] > sides[1]:
            raise ValueError(
                f"filter must be a column times a row, as the one that this blur was made with, and no larger than the "
                f"image of {tuple(sides)} pixels, got another of shape {tuple(filter.shape)}; make a new blur for that"
            )
        values = []
        for axis, line, side in zip(("vertical", "horizontal"), lines, sides, strict=True):
            matrix = _convolution_matrix(line, side, self.padding)
            left, singular, right = torch.linalg.svd(matrix)
            missing = (0, side - matrix.shape[-2])
            values.append(pad(singular, missing))
            for name, factor in (("", matrix), ("_left", pad(left, missing)), ("_right", right.mT)):
                self.register_buffer(axis + name, factor.to(filter.dtype).contiguous())
        mask = (values[0][..., :, None] * values[1][..., None, :]).expand(-1, self.img_size[0], -1, -1)
        self.register_buffer("mask", mask.to(filter.dtype).contiguous())

    def update_parameters(self, filter: Tensor | None = None, **kwargs: object) -> None:
        """deepinv's; the SVD follows the filter, which has to be a column times a row (ValueError)."""
        if filter is not None:
            self._decompose(filter.to(self.filter))
        super().update_parameters(filter=filter, **kwargs)

    def _by_matrices(self, x: Tensor, axis: int) -> bool:
        """Whether matrices take less time for x, an image (axis = -1) or a measurement (-2), and know its shape.

        deepinv's convolution takes about twice as long for an entry of the kernel as matrices for a pixel of a side;
        derivatives by the filter are left to it.
        """
        small = max(self.img_size[-2:]) <= max(64, 2 * math.prod(self.filter.shape[-2:]))
        shape = (self.img_size[0], self.vertical.shape[axis], self.horizontal.shape[axis])
        return small and x.shape[1:] == shape and not self.filter.requires_grad

    def A(self, x: Tensor, filter: Tensor | None = None, **kwargs: object) -> Tensor:
        """w * x, x: (B, C, H, W). filter replaces the current one, as in every deepinv physics."""
        if filter is not None or kwargs:
            self.update_parameters(filter=filter, **kwargs)
        return self.vertical @ x @ self.horizontal.mT if self._by_matrices(x, -1) else super().A(x)

    def A_adjoint(self, y: Tensor, filter: Tensor | None = None, **kwargs: object) -> Tensor:
        """A^T y, y: (B, C, H, W), or smaller where the padding is "valid"."""
        if filter is not None or kwargs:
            self.update_parameters(filter=filter, **kwargs)
        return self.vertical.mT @ y @ self.horizontal if self._by_matrices(y, -2) else super().A_adjoint(y)

    A_adjoint_A = LinearPhysics.A_adjoint_A  # DecomposablePhysics would take the longer way through its SVD
    A_A_adjoint = LinearPhysics.A_A_adjoint

    def noise(self, x: Tensor, **kwargs: object) -> Tensor:
        """x = A(image) with noise, its rounding below 0 not held against Poisson noise."""
        return super().noise(countable(x, self.noise_model), **kwargs)

    def V_adjoint(self, x: Tensor) -> Tensor:
        return self.vertical_right.mT @ x @ self.horizontal_right

    def V(self, x: Tensor) -> Tensor:
        return self.vertical_right @ x @ self.horizontal_right.mT

    def U(self, x: Tensor) -> Tensor:
        return self.vertical_left @ x @ self.horizontal_left.mT

    def U_adjoint(self, x: Tensor) -> Tensor:
        return self.vertical_left.mT @ x @ self.horizontal_left


def _lines(filter: Tensor) -> tuple[Tensor, Tensor] | None:
    """Columns (b, c, h) and rows (b, c, w) whose products are the filter (b, C, h, w) to rounding; None without.

    In float64, with c = 1 where all channels have the same kernel.
    """
    same = bool((filter == filter[:, :1]).all())
    left, values, right = torch.linalg.svd(filter[:, : 1 if same else None].double(), full_matrices=False)
    if bool((values[..., 1:] > 4 * torch.finfo(filter.dtype).eps * values[..., :1]).any()):
        return None
    return left[..., 0] * values[..., :1], right[..., 0, :]


def _factors(filter: Tensor, img_size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Circulant (c, H, H) and (c, W, W) with A x = rows x columns, c = 1 or C; empty where A has none or FFTs win.

    filter: (1 or B, C, h, w); A has them if every channel's kernel is a column times a row, to rounding.
    """
    lines = _lines(filter) if len(filter) == 1 and max(img_size[-2:]) <= MATRIX_SIDE else None
    if lines is None:
        return filter.new_empty(1, 0, 0), filter.new_empty(1, 0, 0)
    rows, columns = (
        _convolution_matrix(line[0], side, "circular").to(filter.dtype).contiguous()
        for line, side in zip(lines, img_size[-2:], strict=True)
    )
    return rows, columns.mT.contiguous()


def _convolution_matrix(lines: Tensor, side: int, padding: str) -> Tensor:
    """Matrices (..., side or less, side) of the padded convolutions with lines (..., h), centred at h // 2."""
    columns = torch.eye(side, dtype=lines.dtype, device=lines.device)[:, None]
    if padding != "valid":
        h, mode = lines.shape[-1], {"zeros": "constant"}.get(padding, padding)
        columns = pad(columns, ((h - 1) // 2, h // 2), mode=mode)
    columns = conv1d(columns, lines.flatten(0, -2).flip(-1)[:, None])
    return columns.permute(1, 2, 0).unflatten(0, lines.shape[:-1])


def blur(
    image_shape: tuple[int, ...],
    noise: NoiseModel,
    seed: int,
    *,
    kernel: Tensor | np.ndarray | None = None,
    padding: str = "circular",
) -> LinearPhysics:
    """y = kernel * x, a true convolution, of (C, H, W) images.

    kernel: (h, w), (1 or C, h, w) or, one per image, (B, 1 or C, h, w); not larger than the image; default: the mean
    over 5 x 5 pixels. padding: "circular" (with SVD), "reflect", "replicate", "zeros", or "valid" (a smaller y), these
    with SVD for a kernel that is a column times a row and images of up to 512 pixels a side.
    """
    kernel = torch.full((5, 5), 1 / 25) if kernel is None else kernel
    return _convolution("blur", image_shape, noise, check_kernel(kernel, image_shape, "kernel"), padding)


def gaussian_blur(
    image_shape: tuple[int, ...], noise: NoiseModel, seed: int, *, width: float = 1.0, padding: str = "circular"
) -> LinearPhysics:
    """Blur with a Gaussian of standard deviation `width` pixels, cut at 3 widths. padding: as in blur."""
    kernel = gaussian_kernel(check_number("width", width, 0))
    return _convolution("gaussian-blur", image_shape, noise, check_kernel(kernel, image_shape, "width"), padding)


def motion_blur(
    image_shape: tuple[int, ...],
    noise: NoiseModel,
    seed: int,
    *,
    length: float = 7.0,
    angle: float = 45.0,
    padding: str = "circular",
) -> LinearPhysics:
    """Blur along a straight segment. length: pixels, at least 1; angle: degrees, counter-clockwise from the rows."""
    kernel = motion_kernel(check_number("length", length, 0), check_number("angle", angle, -math.inf))
    return _convolution("motion-blur", image_shape, noise, check_kernel(kernel, image_shape, "length"), padding)


def gaussian_kernel(width: float) -> Tensor:
    """exp(-r^2 / (2 width^2)) on a square grid of radius ceil(3 width), with sum 1. (h, h)."""
    radius = math.ceil(3 * width)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / width) ** 2)
    kernel = torch.outer(line, line)
    return (kernel / kernel.sum()).float()


def motion_kernel(length: float, angle: float) -> Tensor:
    """A segment of the given length (pixels) and angle (degrees) with bilinear weights and sum 1. (h, h), h odd."""
    radius = max(0, math.ceil((length - 1) / 2))
    t = torch.linspace(-(length - 1) / 2, (length - 1) / 2, 16 * radius + 1, dtype=torch.float64) * (length > 1)
    direction = math.radians(angle)
    rows, columns = -t * math.sin(direction), t * math.cos(direction)
    grid = torch.arange(-radius, radius + 1, dtype=torch.float64)
    # Each point of the segment shares its weight among the four pixels around it.
    row_weights = (1 - (rows[:, None] - grid).abs()).clamp_min(0)
    column_weights = (1 - (columns[:, None] - grid).abs()).clamp_min(0)
    kernel = row_weights.T @ column_weights
    return (kernel / kernel.sum()).float()


def check_kernel(kernel: Tensor | np.ndarray, image_shape: tuple[int, ...], argument: str) -> Tensor:
    """kernel as (b, c, h, w) with c = 1 or C and b = 1 or one per image; ValueError unless it fits the image."""
    check_planar("a blur", image_shape)
    kernel = check_array(argument, kernel)
    if kernel.ndim not in (2, 3, 4) or 0 in kernel.shape:
        raise ValueError(f"{argument} must have shape (h, w), (C, h, w) or (B, C, h, w), got {tuple(kernel.shape)}")
    size = tuple(kernel.shape[-2:])
    if size[0] > image_shape[1] or size[1] > image_shape[2]:
        raise ValueError(
            f"{argument} must give a kernel no larger than the image of {image_shape[1:]} pixels, got one of {size}"
        )
    kernel = kernel.reshape(*[1] * (4 - kernel.ndim), *kernel.shape)
    if kernel.shape[1] not in (1, image_shape[0]):
        raise ValueError(
            f"{argument} must have {' or '.join(map(str, sorted({1, image_shape[0]})))} channels, got {kernel.shape[1]}"
        )
    if not bool(kernel.flatten(1).any(dim=1).all()):
        raise ValueError(f"{argument} must not be zero everywhere, got a kernel of all zeros")
    return kernel


def _convolution(
    name: str, image_shape: tuple[int, ...], noise: NoiseModel, kernel: Tensor, padding: str
) -> LinearPhysics:
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(PADDINGS)} for {name}, got {padding!r}")
    if padding == "circular":
        return CircularBlur(img_size=image_shape, filter=kernel, noise_model=noise)
    side = max(image_shape[1:])
    if len(kernel) * side**3 <= SVD_SIDE**3 and _lines(kernel) is not None:
        return SeparableBlur(image_shape, kernel, padding, noise_model=noise)
    return Blur(filter=kernel, padding=padding, noise_model=noise)
