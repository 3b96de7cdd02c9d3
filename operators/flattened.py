"""Measurements in several parts, or complex ones, as one vector of real numbers per image."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from deepinv.physics import GaussianNoise, LinearPhysics, NoiseModel, Physics, StackedPhysics, ZeroNoise
from deepinv.utils import TensorList
from torch import Tensor, nn

from .checks import check_image_shape
from .linear import device_of, is_linear, with_image_shape
from .noise import noise_parameter

_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}


class Flattened(Physics):
    """The measurements of all parts of a physics, one after the other, as y (B, m), real; made by `flattened`.

    Part j gives R A_j x / e_j, where R splits complex numbers into (real, imaginary), and e_j is the standard deviation
    of its real numbers, or 1 where that is the same in all parts. So y has noise of one law.
    """

    noise_scales: Tensor | None  # e, (b, parts), b one or the number of images

    def __init__(self, parts: Sequence[Physics], pieces: Sequence[Tensor], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.parts = nn.ModuleList(parts)
        self.shapes = [tuple(piece.shape[1:]) for piece in pieces]
        self.complex = [piece.is_complex() for piece in pieces]
        model, levels = _noise(parts, self.complex)
        self.noise_model = model
        self.register_buffer("noise_scales", levels)

    def A(self, x: Tensor, **kwargs: object) -> Tensor:
        return self._join([part.A(x, **kwargs) for part in self.parts])

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self._back(lambda part, piece: part.A_vjp(x, piece), v)

    def forward(self, x: Tensor, **kwargs: object) -> Tensor:
        """A noisy measurement; each part draws its noise in its own way."""
        return self._join([part(x, **kwargs) for part in self.parts])

    def measurement(self, y: Tensor | TensorList) -> Tensor:
        """(B, m) of a measurement as the physics itself gives it: a TensorList of all parts, or one complex tensor.

        Raises TypeError or ValueError for other kinds, shapes and precisions.
        """
        pieces = self._pieces(y)
        for j, (piece, shape, imaginary) in enumerate(zip(pieces, self.shapes, self.complex, strict=True)):
            name = f"y[{j}]" if len(pieces) > 1 else "y"
            kinds = tuple(_REAL) if imaginary else tuple(_REAL.values())
            if not isinstance(piece, Tensor) or piece.dtype not in kinds:
                came = _short(piece.dtype) if isinstance(piece, Tensor) else type(piece).__name__
                raise TypeError(f"{name} must be {' or '.join(_short(kind) for kind in kinds)}, got {came}")
            if piece.ndim == 0 or tuple(piece.shape[1:]) != shape:
                needed = ", ".join(map(str, ("B", *shape)))
                raise ValueError(f"{name} must have shape ({needed}), got {tuple(piece.shape)}")
        for what in (len, _precision, lambda piece: piece.device):
            if len({what(piece) for piece in pieces}) > 1:
                came = ", ".join(f"{tuple(p.shape)} {_short(p.dtype)} on {p.device}" for p in pieces)
                raise ValueError(f"all parts of y must have one batch size, precision and device, got {came}")
        return self._join(pieces)

    def spread(self, values: Sequence[Tensor | None]) -> Tensor | None:
        """One real value per entry of each part, broadcasting over it, (b, m); ones for None, None if all are."""
        if all(value is None for value in values):
            return None
        given = [value for value in values if value is not None]
        columns = []
        for value, shape, imaginary in zip(values, self.shapes, self.complex, strict=True):
            entries = (given[0].new_ones(1) if value is None else value).expand(max(map(len, given)), *shape)
            columns.append((torch.stack([entries, entries], -1) if imaginary else entries).flatten(1))
        return torch.cat(columns, dim=1)

    def _pieces(self, y: Tensor | TensorList) -> list[Tensor]:
        parts = len(self.parts)
        if isinstance(y, TensorList) and len(y) == parts:
            return list(y.x)
        if isinstance(y, Tensor) and parts == 1:
            return [y]
        came = f"a TensorList of {len(y)}" if isinstance(y, TensorList) else type(y).__name__
        raise TypeError(
            f"y must be a deepinv TensorList of {parts} tensors, one per part of the physics, got {came}; "
            "a y that is flattened already belongs to operators.flattened(physics, image_shape)"
        )

    def _join(self, pieces: Iterable[Tensor]) -> Tensor:
        real = (torch.view_as_real(p.resolve_conj()) if p.is_complex() else p for p in pieces)
        return torch.cat([self._scaled(piece.flatten(1), j) for j, piece in enumerate(real)], dim=1)

    def _scaled(self, column: Tensor, j: int) -> Tensor:
        """(B, m_j) over e_j."""
        return column if self.noise_scales is None else column / self.noise_scales[:, j : j + 1].to(column)

    def _back(self, product: Callable[[Physics, Tensor], Tensor], v: Tensor) -> Tensor:
        """The sum over the parts of product(part, piece of R^T v / e), its real part for images, which are real."""
        layout = list(zip(self.shapes, self.complex, strict=True))
        columns = v.split([math.prod(shape) * (2 if imaginary else 1) for shape, imaginary in layout], dim=1)
        images = []
        for j, (part, column, (shape, imaginary)) in enumerate(zip(self.parts, columns, layout, strict=True)):
            piece = self._scaled(column, j).reshape(-1, *shape, *((2,) if imaginary else ()))
            image = product(part, torch.view_as_complex(piece.contiguous()) if imaginary else piece)
            images.append(image.real if image.is_complex() else image)
        return sum(images[1:], images[0])


class FlattenedLinear(Flattened, LinearPhysics):
    """`Flattened` where all parts are linear; A^T is the adjoint for the real inner product."""

    def A_adjoint(self, y: Tensor, **kwargs: object) -> Tensor:
        return self._back(lambda part, piece: part.A_adjoint(piece, **kwargs), y)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.A_adjoint(v)


def flattened(physics: Physics, image_shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Physics:
    """The physics whose measurements are real tensors: itself, or for stacked and complex ones a `Flattened`.

    Stacked: deepinv's StackedPhysics, whose y is a TensorList; its parts become one vector (B, m), and where they have
    Gaussian noise of different levels, each is divided by its own, so that all noise has standard deviation 1.
    Complex: pairs of real numbers. deepinv's GaussianNoise of sigma has a variance of sigma^2 / 2 in each of the two.
    `Flattened.measurement` converts a y; `Posterior` does both itself. The given physics is unchanged.
    image_shape: (C, H, W) or (d,). dtype: of images, to find the shapes of y by. Raises ValueError for a list of
    tensors from any other physics, and where noise is of different laws, none in a part, or complex and not Gaussian.
    """
    shape = check_image_shape(image_shape)
    stacked = isinstance(physics, StackedPhysics)
    parts = [with_image_shape(part, shape) for part in (physics.physics_list if stacked else [physics])]
    device = device_of(parts[0])
    pieces = [output_of(part, torch.zeros(1, *shape, dtype=dtype, device=device)) for part in parts]
    if not stacked and not pieces[0].is_complex():
        return physics
    if all(is_linear(part) for part in parts):
        return FlattenedLinear(parts, pieces, img_size=shape, device=device)
    result = Flattened(parts, pieces)
    result.img_size = shape
    return result


def as_real(physics: Physics, y: Tensor | TensorList, image_shape: Sequence[int]) -> tuple[Physics, Tensor]:
    """physics and y as they are, or both flattened where y is complex or the physics stacked; neither is changed."""
    complex_or_parts = isinstance(y, TensorList) or (isinstance(y, Tensor) and y.is_complex())
    if not (complex_or_parts or isinstance(physics, StackedPhysics)):
        return physics, y
    first = y[0] if isinstance(y, TensorList) and len(y) else y
    double = isinstance(first, Tensor) and first.dtype in (torch.float64, torch.complex128)
    flat = flattened(physics, image_shape, torch.float64 if double else torch.float32)
    return flat, flat.measurement(y) if isinstance(flat, Flattened) else y


def output_of(part: Physics, zeros: Tensor) -> Tensor:
    """A of zeros, a tensor; ValueError where A does not take them, or gives something else."""
    try:
        with torch.no_grad():
            output = part.A(zeros)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"physics must accept images of shape {tuple(zeros.shape[1:])} and {zeros.dtype}, got from its A: {error}"
        ) from error
    if not isinstance(output, Tensor):
        raise ValueError(
            "physics must give a tensor, or be a deepinv.physics.stack of several that do, got "
            f"{type(output).__name__} from the A of {type(part).__name__}"
        )
    return output


def _noise(parts: Sequence[Physics], imaginary: Sequence[bool]) -> tuple[NoiseModel, Tensor | None]:
    """The noise of one law that all parts have, and the levels (b, parts) they have to be divided by for that."""
    models = [part.noise_model for part in parts]
    kinds = {type(model) for model in models}
    if len(parts) > 1 and ZeroNoise in kinds:
        j = [type(model) for model in models].index(ZeroNoise)
        raise ValueError(
            f"every part of physics must have noise, got ZeroNoise in part {j}; give it some by "
            f"physics.set_noise_model(deepinv.physics.GaussianNoise(0.05), item={j})"
        )
    if kinds == {GaussianNoise}:
        levels = [_level(part, pair) for part, pair in zip(parts, imaginary, strict=True)]
        if all(torch.equal(level, levels[0]) for level in levels):
            return GaussianNoise(levels[0].clone()), None
        return GaussianNoise(torch.ones_like(levels[0][0])), torch.stack(torch.broadcast_tensors(*levels), dim=1)
    if kinds == {ZeroNoise} or (not any(imaginary) and all(_alike(model, models[0]) for model in models)):
        return copy.copy(models[0]), None
    came = ", ".join(type(model).__name__ for model in models)
    if any(imaginary):
        raise ValueError(f"physics must have GaussianNoise where its measurements are complex, got {came}")
    raise ValueError(f"all parts of physics must have GaussianNoise, or one and the same other noise, got {came}")


def _level(part: Physics, imaginary: bool) -> Tensor:
    """Standard deviation of each real number, (1,) or (B,): half of a complex number's variance is in each of both."""
    sigma = noise_parameter(part, "sigma").reshape(-1)
    return sigma / math.sqrt(2) if imaginary else sigma


def _alike(model: NoiseModel, other: NoiseModel) -> bool:
    mine, others = (
        {name: value for name, value in m.named_buffers() if name != "initial_random_state"} for m in (model, other)
    )
    return (
        type(model) is type(other)
        and mine.keys() == others.keys()
        and all(torch.equal(value, others[name]) for name, value in mine.items())
    )


def _precision(piece: Tensor) -> torch.dtype:
    return _REAL.get(piece.dtype, piece.dtype)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
