"""What a linear operator is here, whether its adjoint is one, and how large it is."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence

import torch
from deepinv.physics import DecomposablePhysics, Demosaicing, Inpainting, LinearPhysics, Physics
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .batch import images_per_batch
from .checks import check_image_shape, generator
from .decoded import Decoded


def is_linear(physics: Physics) -> bool:
    """Whether physics is a deepinv LinearPhysics, that is, has an A_adjoint that is its transpose."""
    return isinstance(physics, LinearPhysics)


def with_image_shape(physics: Physics, image_shape: tuple[int, ...]) -> Physics:
    """The physics, or a copy that knows image_shape where deepinv's automatic adjoint does not but needs it as a tuple.

    The copy shares all tensors and parts; the given physics is unchanged.
    """
    automatic = is_linear(physics) and type(physics).A_adjoint is LinearPhysics.A_adjoint and physics.A_adj is None
    if not automatic or isinstance(physics.img_size, tuple):
        return physics
    clone = copy.copy(physics)
    clone.img_size = image_shape
    return clone


def check_adjoint(
    physics: Physics, image_shape: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float32
) -> float:
    """|<Ax, y> - <x, A^T y>| / (|Ax| |y|) for a random x: about 1e-7 in float32 where A^T is the adjoint.

    The larger of two, for a random y and for y = A x: random vectors are nearly orthogonal in high dimensions, so that
    a wrong adjoint would pass the first alone; the second is of order 1 then.
    Complex measurements count as pairs of real numbers. dtype: of x. Raises ValueError when physics is not linear.
    """
    if not is_linear(physics):
        raise ValueError(f"physics must be a deepinv LinearPhysics to have an adjoint, got {type(physics).__name__}")
    rng = generator(seed)
    shape = (images_per_batch(physics) or 1, *check_image_shape(image_shape))
    x = torch.randn(shape, generator=rng, dtype=dtype).to(device_of(physics))
    with torch.no_grad():
        forward = physics.A(x)
        y = torch.randn(forward.shape, generator=rng, dtype=forward.dtype).to(forward.device)
        return max(_adjoint_error(physics, x, forward, probe) for probe in (y, forward))


def _adjoint_error(physics: Physics, x: Tensor, forward: Tensor, y: Tensor) -> float:
    left, right = _inner(forward, y), _inner(x, physics.A_adjoint(y))
    scale = (_inner(forward, forward) * _inner(y, y)) ** 0.5
    return abs(left - right) / scale if scale > 0 else abs(left - right)


def sqnorm(physics: Physics, image_shape: Sequence[int], seed: int = 0) -> float:
    """||A||^2, the largest squared singular value of A; of a non-linear A, of its Jacobian at three random images.

    Read off the singular values of a DecomposablePhysics, else by power iteration from a seeded start (relative
    accuracy about 1e-3, from below). Images for the Jacobian are uniform in [0, 1]. Through a decoder, which is dear,
    of the Jacobian at one standard normal latent variable, in ten steps.
    """
    if isinstance(physics, DecomposablePhysics) and isinstance(physics.mask, Tensor):
        return float(physics.mask.abs().max()) ** 2
    rng, device = generator(seed), device_of(physics)
    shape = (1, *check_image_shape(image_shape))
    start = torch.randn(shape, generator=rng).to(device)
    with torch.no_grad():
        if is_linear(physics):
            return _power_iteration(lambda v: physics.A_adjoint(physics.A(v)), start)
        if isinstance(physics, Decoded):
            latent = torch.randn(shape, generator=rng).to(device)
            return _power_iteration(_gauss_newton(physics, latent), start, steps=10)
        images = [torch.rand(shape, generator=rng).to(device) for _ in range(3)]
        return max(_power_iteration(_gauss_newton(physics, image), start) for image in images)


def diagonal(physics: Physics) -> Tensor | None:
    """a with A x = a x, (b, *image_shape), b = 1 or one per image, where A only weighs entries; else None."""
    return physics.mask if type(physics) in (Inpainting, Demosaicing) else None


def device_of(physics: Physics, default: torch.device | str = "cpu") -> torch.device:
    """Device of the physics' parameters; default when it has none."""
    return next((buffer.device for buffer in physics.buffers()), torch.device(default))


def _gauss_newton(physics: Physics, x: Tensor) -> Callable[[Tensor], Tensor]:
    """v -> J^T J v with J the Jacobian of A at x."""

    def product(v: Tensor) -> Tensor:
        # Fused attention has no forward differentiation.
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, about how it compiles forward differentiation
            tangent = torch.func.jvp(physics.A, (x,), (v,))[1]
        return physics.A_vjp(x, tangent)

    return product


def _power_iteration(operator: Callable[[Tensor], Tensor], v: Tensor, steps: int = 300, tol: float = 1e-6) -> float:
    """Largest eigenvalue of a symmetric positive operator."""
    value = 0.0
    for _ in range(steps):
        v = operator(v / v.norm().clamp_min(1e-30))
        previous, value = value, float(v.norm())
        if abs(value - previous) <= tol * value:
            break
    return value


def _inner(a: Tensor, b: Tensor) -> float:
    """Real inner product, summed in float64."""
    if a.is_complex() and b.is_complex():
        a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
    elif a.is_complex() or b.is_complex():
        a, b = a.real, b.real
    return float((a.double() * b.double()).sum())
