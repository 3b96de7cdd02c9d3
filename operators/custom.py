"""A user's own operator: a function, or a pair of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from deepinv.physics import (
    ComposedPhysics,
    DecomposablePhysics,
    LinearPhysics,
    NoiseModel,
    Physics,
    adjoint_function,
)
from torch import Tensor

from .checks import check_image_shape, generator
from .flattened import Flattened
from .linear import check_adjoint, device_of
from .noise import as_noise_model

_TOLERANCE = 1e-3  # relative; far above float32 rounding, far below any wrong adjoint
# deepinv's own adjoints are exact to 1e-6, but for the filtered ones of its Tomography(adjoint_via_backprop=False).
_TOLERANCE_DEEPINV = 0.1


class _Differentiated(LinearPhysics):
    """A linear function whose adjoint is its vector-Jacobian product, traced once per batch shape."""

    def __init__(self, A: Callable[[Tensor], Tensor], img_size: tuple[int, ...], **kwargs: object) -> None:
        super().__init__(A=A, img_size=img_size, **kwargs)
        self._traced: tuple[object, Callable[[Tensor], Tensor]] | None = None

    def A_adjoint(self, y: Tensor, **kwargs: object) -> Tensor:
        key = (len(y), y.dtype, y.device)
        if self._traced is None or self._traced[0] != key:
            shape = (len(y), *self.img_size)
            self._traced = key, adjoint_function(self.A, shape, device=y.device, dtype=y.dtype)
        return self._traced[1](y)


def from_functions(
    A: Callable[[Tensor], Tensor],
    A_adjoint: Callable[[Tensor], Tensor] | None = None,
    image_shape: Sequence[int] | None = None,
    *,
    linear: bool = True,
    noise: float | Tensor | NoiseModel = 0.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Physics:
    """Your own forward operator as a deepinv Physics; there is no SVD to write.

    A: images (B, *image_shape) to real measurements (B, ...), in torch, each image on its own. A_adjoint: its
    transpose; by automatic differentiation of A when not given. linear: False for a non-linear A, which takes no
    A_adjoint. image_shape: (C, H, W) or (d,); it has to be given. noise, seed: as in `create`. device: where the
    functions work.
    Raises ValueError when A is not linear although linear is True, when A_adjoint is not its transpose (both tried on
    random images), or when A loses the batch axis; TypeError for a complex y: return torch.view_as_real of it.
    """
    for argument, function in (("A", A), ("A_adjoint", A_adjoint)):
        if not callable(function) and not (argument == "A_adjoint" and function is None):
            raise TypeError(f"{argument} must be a function of a batch of tensors, got {type(function).__name__}")
    shape = check_image_shape(image_shape)
    model = as_noise_model(noise, seed)
    _check_forward(A, shape, linear, device)
    if not linear:
        if A_adjoint is not None:
            raise ValueError("A_adjoint must not be given when linear is False, got a function")
        physics: Physics = Physics(A=A, noise_model=model)
    elif A_adjoint is None:
        physics = _Differentiated(A, shape, noise_model=model)
    else:
        physics = LinearPhysics(A=A, A_adjoint=A_adjoint, img_size=shape, noise_model=model)
    physics.img_size = shape
    physics.to(device)
    if linear and A_adjoint is not None:
        _check_transpose(physics, shape)
    physics._tried = True
    return physics


def check_own_adjoint(physics: Physics, image_shape: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
    """Raise ValueError unless the adjoint of a linear physics is one, tried on a random image in five products.

    Those of `create` and `from_functions`, which are known to be, are not tried, nor is a physics that is not linear.
    The error that is let pass is 1e-3, and 0.1 for deepinv's own classes, some of which have an approximate adjoint.
    """
    if isinstance(physics, Flattened):
        for part in physics.parts:
            check_own_adjoint(part, image_shape, dtype)
        return
    if not isinstance(physics, LinearPhysics) or _known(physics):
        return
    try:
        error = check_adjoint(physics, image_shape, dtype=dtype)
    except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError) as failure:
        raise ValueError(
            f"physics must have an A_adjoint that maps its measurements to images {tuple(image_shape)}, got from that "
            f"of {type(physics).__name__}: {failure}; for an automatic one, give deepinv's LinearPhysics A and "
            f"img_size={tuple(image_shape)}"
        ) from failure
    tolerance = _TOLERANCE_DEEPINV if _of_deepinv(physics) else _TOLERANCE
    if not error <= tolerance:
        off = _off_linear(physics.A, tuple(image_shape), dtype, device_of(physics))
        if off > _TOLERANCE:
            raise ValueError(
                f"A of {type(physics).__name__}, a LinearPhysics, must be linear, got A(u + 2v) off A(u) + 2A(v) by "
                f"{off:.1%}; derive from deepinv.physics.Physics instead, and use dps"
            )
        raise ValueError(
            f"A_adjoint of {type(physics).__name__} must be the transpose of its A, got |<Ax, y> - <x, A^T y>| / "
            f"(|Ax| |y|) = {error:.2g} for random x and y, not at most {tolerance}; give one that is, or none, for an "
            f"automatic one: deepinv.physics.LinearPhysics(A=A, img_size={tuple(image_shape)})"
        )


def _known(physics: Physics) -> bool:
    """Whether create or from_functions made it, or all that it is composed of."""
    if isinstance(physics, ComposedPhysics):
        return all(map(_known, physics.physics_list))
    return "_asked" in physics.__dict__ or "_tried" in physics.__dict__


def _of_deepinv(physics: Physics) -> bool:
    """Whether the code of its A and A_adjoint, or of all that it is composed of, is deepinv's or ours."""
    if isinstance(physics, ComposedPhysics):
        return all(map(_of_deepinv, physics.physics_list))
    module = type(physics).__module__.split(".")[0]
    return module in ("deepinv", "operators") and type(physics) not in (LinearPhysics, DecomposablePhysics)


def _off_linear(
    A: Callable[[Tensor], Tensor], shape: Sequence[int], dtype: torch.dtype, device: torch.device | str
) -> float:
    """|A(u + 2v) - A(u) - 2A(v)| over the size of the latter two, for random u and v."""
    u, v = torch.randn(2, 2, *shape, generator=generator(0), dtype=dtype).to(device)
    with torch.no_grad():
        expected = A(u) + 2 * A(v)
        return float((A(u + 2 * v) - expected).norm() / expected.norm().clamp_min(1e-30))


def _check_forward(
    A: Callable[[Tensor], Tensor], shape: tuple[int, ...], linear: bool, device: torch.device | str
) -> None:
    u = torch.randn(2, *shape, generator=generator(0)).to(device)
    with torch.no_grad():
        image = A(u)
        if not isinstance(image, Tensor) or image.ndim == 0 or len(image) != 2:
            came = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise ValueError(f"A must map a batch (2, {', '.join(map(str, shape))}) to a batch of 2, got {came}")
        if image.is_complex():
            raise TypeError(
                f"A must give real measurements, got {image.dtype}; return torch.view_as_real of them (noise is then "
                "that of the real and of the imaginary part), or make it a deepinv LinearPhysics, which may be complex"
            )
    if not linear:
        return
    error = _off_linear(A, shape, u.dtype, device)
    if error > _TOLERANCE:
        raise ValueError(f"A must be linear, got A(u + 2v) off A(u) + 2A(v) by {error:.1%}; else set linear=False")


def _check_transpose(physics: LinearPhysics, shape: tuple[int, ...]) -> None:
    with torch.no_grad():
        back = physics.A_adjoint(physics.A(torch.zeros(2, *shape, device=device_of(physics))))
    if tuple(back.shape) != (2, *shape):
        raise ValueError(f"A_adjoint must give shape {(2, *shape)} for 2 measurements, got {tuple(back.shape)}")
    error = check_adjoint(physics, shape)
    if error > _TOLERANCE:
        raise ValueError(
            "A_adjoint must be the transpose of A, got |<Ax, y> - <x, A^T y>| / (|Ax| |y|) = "
            f"{error:.2g} for random x and y, not at most {_TOLERANCE}"
        )
