"""Error fields of a stated size that are added to a score: e(x, sigma) = amplitude sigma^exponent u(x).

Every error is in units of a score (1 / unit of the data), a deterministic function of x and sigma, and a pure function
of its options: u is drawn in float64 from its own generator, seeded, and rounded to the dtype of x once.

What an error of a given kind does (Li et al. 2025, arXiv 2509.24912): Theorem 4.1 (1), any of size o(sigma^-2) leaves
the law on the manifold; (2), one of order 1 along the manifold turns p_data into any other law on it (`DensityError`,
`TangentialError`, `GradientError`); Theorems 5.1 and 5.2, the tempered score tolerates all of them, also those that
are not gradients (`SolenoidalError`), up to the size o(sigma^-2).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from inverse.checks import whole
from priors import Manifold
from priors.base import Sigma, sigma_per_item
from priors.manifolds import Embedded, LogDensity, Submanifold

from .base import ScoreError

NODES = 2**12
# Numbers that the points of a normalisation may take together; 128 MiB.
MEMORY = 2**24


class Size(NamedTuple):
    """Euclidean norm of an error over a batch of points: its largest value, and its root mean square."""

    sup: float
    rms: float


class Waves(NamedTuple):
    """sum_j vectors_j cos(frequencies_j . x + phases_j): frequencies (J, d), phases (J,), vectors (J, d) or (J, 1)."""

    frequencies: Tensor
    phases: Tensor
    vectors: Tensor

    def angles(self, flat: Tensor) -> Tensor:
        """frequencies_j . x + phases_j, (B, J), of flat images (B, d)."""
        return flat @ self.frequencies.T + self.phases


def _draw(seed: int, features: int, d: int, length_scale: float) -> tuple[Tensor, Tensor, torch.Generator]:
    """Frequencies w_j / l with w_j ~ N(0, I_d), and phases, uniform; float64."""
    generator = torch.Generator().manual_seed(seed)
    frequencies = torch.randn(features, d, dtype=torch.float64, generator=generator) / length_scale
    phases = 2 * math.pi * torch.rand(features, dtype=torch.float64, generator=generator)
    return frequencies, phases, generator


# The caches are the module's, not an error's, so that the amplitudes of a sweep share one draw. Tensors made in
# inference mode could not be differentiated through when they are found again outside of it.
@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def _potential_waves(
    seed: int, features: int, d: int, length_scale: float, dtype: torch.dtype, device: torch.device
) -> Waves:
    """Waves of a potential, vectors (J, 1), whose gradient has mean square 1 over R^d."""
    frequencies, phases, _ = _draw(seed, features, d, length_scale)
    # Over all of space waves of different frequencies are orthogonal and a squared sine has mean 1/2.
    height = frequencies.square().sum().div(2).rsqrt()
    parts = (frequencies, phases, height.expand(features, 1))
    return Waves(*(part.to(device=device, dtype=dtype) for part in parts))


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def _transverse_waves(
    seed: int, features: int, d: int, length_scale: float, dtype: torch.dtype, device: torch.device
) -> Waves:
    """Waves of a vector field, each orthogonal to its frequency, with mean square 1 over R^d."""
    frequencies, phases, generator = _draw(seed, features, d, length_scale)
    vectors = torch.randn(features, d, dtype=torch.float64, generator=generator)
    along = (vectors * frequencies).sum(1, keepdim=True) / frequencies.square().sum(1, keepdim=True)
    vectors = vectors - along * frequencies
    vectors = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True) * math.sqrt(2 / features)
    return Waves(*(part.to(device=device, dtype=dtype) for part in (frequencies, phases, vectors)))


def _finite(name: str, value: float, positive: bool = False) -> float:
    wanted = "finite and above 0" if positive else "a finite number"
    number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (positive and value <= 0):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return float(value)


def _plain(value: object) -> object:
    """An option of an error as a JSON value."""
    if value is None or isinstance(value, int | float | str):
        return value
    if isinstance(value, Manifold):
        return f"Manifold({value.manifold!r}, {_plain(value.log_density)})"
    if isinstance(value, tuple):
        shape = "x".join(map(str, torch.tensor(value).shape))
        return f"{shape} sha256:{hashlib.sha256(repr(value).encode()).hexdigest()[:12]}"
    # The repr that every object has shows an address, which is another one in the next run.
    named = type(value).__repr__ is not object.__repr__ and not hasattr(value, "__name__")
    return repr(value) if named else getattr(value, "__name__", type(value).__name__)


def _power(settings: Mapping[str, Any]) -> str:
    """What is multiplied with the amplitude, where the exponent is not 0."""
    exponent = float(settings.get("exponent", 0))
    return f" sigma^{exponent:g}" if exponent else ""


@dataclasses.dataclass(frozen=True)
class FieldError(ScoreError):
    """e(x, sigma) = amplitude sigma^exponent u(x); a subclass writes the unit field u as `unit`.

    amplitude: at least 0, in units of a score where exponent = 0. exponent: beta in c sigma^beta; above -2 the tempered
    score tolerates the error, at -2 it is a displacement that does not vanish with sigma (Li et al. 2025, Theorem 5.1).
    seed: of the unit field. Errors of one seed and different amplitudes or exponents share their unit field.
    Raises ValueError when one of these is not such a number.
    """

    exponent: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._store(
            amplitude=float(self.amplitude),
            exponent=_finite("exponent", self.exponent),
            seed=whole("seed", self.seed, least=None),
        )

    def _store(self, **options: object) -> None:
        """Set fields while the error is being made, after which it is frozen."""
        for name, value in options.items():
            object.__setattr__(self, name, value)

    def unit(self, x: Tensor) -> Tensor:
        """The field of amplitude 1 and exponent 0, like x (B, *image_shape)."""
        raise NotImplementedError

    def check(self, x: Tensor) -> None:
        """Raise TypeError or ValueError unless x is a batch of real images (B, *image_shape) that the field takes."""
        if not x.is_floating_point():
            raise TypeError(f"x must be of a real floating-point dtype, got {x.dtype}")
        if x.ndim < 2:
            raise ValueError(f"x must have shape (B, *image_shape), got {tuple(x.shape)}")

    def __call__(self, x: Tensor, sigma: Sigma) -> Tensor:
        """e(x, sigma), like x (B, *image_shape). sigma: float, (), (B,) or (B, 1, ..., 1), in units of the data."""
        self.check(x)
        return self._scale(x, sigma) * self.unit(x)

    def _scale(self, x: Tensor, sigma: Sigma) -> Tensor:
        """amplitude sigma^exponent, () or (B, 1, ..., 1)."""
        return self.amplitude * sigma_per_item(sigma, x) ** self.exponent

    @torch.no_grad()
    def size(self, x: Tensor, sigma: Sigma) -> Size:
        """Supremum and root mean square of |e(x, sigma)|_2 over the batch x (B, *image_shape): measured there."""
        norms = torch.linalg.vector_norm(self(x, sigma).flatten(1), dim=1, dtype=torch.float64)
        return Size(float(norms.max()), float(norms.square().mean().sqrt()))

    @classmethod
    def in_words(cls, settings: Mapping[str, Any]) -> tuple[str, str]:
        return "the score is off by", _power(settings)

    def describe(self) -> dict[str, object]:
        """The error as plain JSON values: its class as "error", and its options; functions are named, not kept."""
        options = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {"error": type(self).__name__, **options}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FourierError(FieldError):
    """What errors made of random plane waves share: waves cos(<w_j, x> / length_scale + b_j), w_j ~ N(0, I_d).

    With this law <w_j, t> is standard normal for every unit vector t, so that whatever the dimension d a wave's phase
    changes by about 1 when x moves by `length_scale` (in units of the data) in any fixed direction: a wave at x and at
    x + r t has correlation exp(-r^2 / (2 length_scale^2)), on average over w_j (Rahimi and Recht 2007). White noise
    moves x by sigma sqrt(d), so the field also changes over a noise level of length_scale / sqrt(d).

    features: number J of waves. Raises ValueError unless length_scale is above 0 and features at least 1.
    """

    length_scale: float = 1.0
    features: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        self._store(
            length_scale=_finite("length_scale", self.length_scale, positive=True),
            features=whole("features", self.features),
        )

    def _key(self, x: Tensor) -> tuple:
        """What the waves for images like x (B, *image_shape) are drawn and cached by."""
        return self.seed, self.features, math.prod(x.shape[1:]), self.length_scale, x.dtype, x.device


def _bound(vectors: Tensor) -> float:
    """Bound on |sum_j a_j v_j| over |a_j| <= 1: sqrt(J) times the spectral norm of vectors (J, d)."""
    return float(torch.linalg.matrix_norm(vectors, ord=2)) * math.sqrt(len(vectors))


def _like(image_shape: Sequence[int]) -> Tensor:
    """A batch without items, (0, *image_shape), float64."""
    return torch.empty(0, *image_shape, dtype=torch.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientError(FourierError):
    """The gradient of a random potential, u = grad phi, phi(x) = c sum_j cos(<w_j, x> / l + b_j), w_j ~ N(0, I_d).

    Size: the mean of |u|_2^2 over all of R^d, |.|_2 over all entries of an image, is exactly 1; |u|_2 is at most
    `bound(image_shape)`, about sqrt(2) (1 + sqrt(features / d)). The mean over a small region may differ from 1:
    `size` measures it. On a manifold of dimension n the part along it has a mean square of about n / d.

    Plain Langevin dynamics on the manifold then has the law p_data exp(potential) (Li et al. 2025, Theorem 4.1 (2)).
    Options: `FourierError`.
    """

    def unit(self, x: Tensor) -> Tensor:
        """grad phi, like x (B, *image_shape)."""
        waves = _potential_waves(*self._key(x))
        slopes = -waves.angles(x.flatten(1)).sin() * waves.vectors[:, 0]
        return (slopes @ waves.frequencies).reshape(x.shape)

    def potential(self, x: Tensor, sigma: Sigma) -> Tensor:
        """amplitude sigma^exponent phi(x), (B,), without units; its gradient in x is the error."""
        self.check(x)
        waves = _potential_waves(*self._key(x))
        return self._scale(x, sigma).reshape(-1) * (waves.angles(x.flatten(1)).cos() @ waves.vectors[:, 0])

    def bound(self, image_shape: Sequence[int]) -> float:
        """Bound on the supremum of |u|_2 over R^d: sqrt(J) times the spectral norm of the matrix of c w_j / l."""
        waves = _potential_waves(*self._key(_like(image_shape)))
        return _bound(waves.vectors * waves.frequencies)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolenoidalError(FourierError):
    """A divergence-free field, u = sqrt(2/J) sum_j v_j cos(<w_j, x> / l + b_j), |v_j| = 1, <v_j, w_j> = 0.

    It is no score of any law: its Jacobian has a part that is not symmetric, twice as large in mean square over space,
    |J - J^T|^2, as the Jacobian itself. Size: the mean of |u|_2^2 over all of R^d is exactly 1; |u|_2 is at most
    `bound(image_shape)`. Such errors are covered by Li et al. 2025, Theorem 5.2. Options: `FourierError`.

    Raises ValueError when called with images of one entry, where no vector is orthogonal to w_j.
    """

    def check(self, x: Tensor) -> None:
        """Raise TypeError or ValueError unless x is a batch of real images of at least 2 entries."""
        super().check(x)
        if math.prod(x.shape[1:]) < 2:
            raise ValueError(f"x must have at least 2 entries per item for a SolenoidalError, got {tuple(x.shape)}")

    def unit(self, x: Tensor) -> Tensor:
        """The divergence-free field, like x (B, *image_shape)."""
        waves = _transverse_waves(*self._key(x))
        return (waves.angles(x.flatten(1)).cos() @ waves.vectors).reshape(x.shape)

    def bound(self, image_shape: Sequence[int]) -> float:
        """Bound on the supremum of |u|_2 over R^d: sqrt(2) times the spectral norm of the matrix of v_j."""
        like = _like(image_shape)
        self.check(like)
        return _bound(_transverse_waves(*self._key(like)).vectors)


def _nested(values: object) -> object:
    """Nested lists of numbers as nested tuples, which can be hashed and compared."""
    return tuple(map(_nested, values)) if isinstance(values, list) else values


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiasError(FieldError):
    """The same vector everywhere, u(x) = direction / |direction|_2. Size: |u|_2 = 1 at every x.

    direction: tensor or nested sequence of image_shape, of any length above 0, kept as nested tuples; None draws one
    from the seed, uniform on the unit sphere.
    Raises ValueError when the direction is zero or not finite, and when it does not have the shape of the images.
    """

    direction: Tensor | Sequence | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.direction is None:
            return
        direction = torch.as_tensor(self.direction, dtype=torch.float64)
        if direction.ndim == 0 or not bool(direction.isfinite().all()) or not bool(direction.any()):
            raise ValueError(f"direction must be a finite vector or image that is not zero, got {self.direction!r}")
        self._store(direction=_nested(direction.tolist()))

    def unit(self, x: Tensor) -> Tensor:
        """The unit direction at every item, like x (B, *image_shape)."""
        key = (x.shape[1:], x.dtype, x.device)
        if key not in self._drawn:
            self._drawn[key] = self._draw(x.shape[1:]).to(device=x.device, dtype=x.dtype)
        return self._drawn[key].expand_as(x)

    @functools.cached_property
    def _drawn(self) -> dict[tuple, Tensor]:
        return {}

    @torch.inference_mode(False)
    def _draw(self, shape: torch.Size) -> Tensor:
        if self.direction is None:
            vector = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(self.seed))
        else:
            vector = torch.tensor(self.direction, dtype=torch.float64)
        if vector.shape != shape:
            raise ValueError(f"direction must have the shape of the images, {tuple(shape)}, got {tuple(vector.shape)}")
        return vector / vector.norm()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ManifoldError(FieldError):
    """What errors on a known manifold share: u(x) depends on the nearest point P_M x alone, not on the distance to M.

    manifold: one of priors.manifolds, or a priors.Manifold, whose manifold is taken.
    Raises TypeError for anything else; ValueError when called with x that is not of the manifold's shape.
    """

    manifold: Submanifold | Manifold | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.manifold, Submanifold | Manifold):
            kind = type(self.manifold).__name__
            raise TypeError(f"manifold must be one of priors.manifolds or a priors.Manifold, got {kind}")

    @property
    def support(self) -> Submanifold:
        """The manifold itself."""
        manifold = self.manifold.manifold if isinstance(self.manifold, Manifold) else self.manifold
        return cast(Submanifold, manifold)

    def check(self, x: Tensor) -> None:
        """Raise TypeError or ValueError unless x is a batch of real points of the manifold's shape."""
        super().check(x)
        if tuple(x.shape[1:]) != tuple(self.support.image_shape):
            shape = ", ".join(map(str, self.support.image_shape))
            raise ValueError(f"x must have shape (B, {shape}) for an error on {self.support!r}, got {tuple(x.shape)}")


def _on_points(manifold: Submanifold, name: str, function: LogDensity) -> Callable[[Tensor], Tensor]:
    """A function of the manifold's own points as one of images (B, *image_shape) -> (B,), its values checked."""

    def value(points: Tensor) -> Tensor:
        inner = manifold.inner(points) if isinstance(manifold, Embedded) else points
        result = function(inner)
        if not isinstance(result, Tensor) or result.shape != points.shape[:1]:
            shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            of = ", ".join(map(str, inner.shape[1:]))
            raise ValueError(f"{name} must map points (..., {of}) to a tensor (...), got {shape}")
        return result

    return value


def _tangential_gradient(manifold: Submanifold, function: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """grad_M of a function (B, *image_shape) -> (B,) at points of M, with a graph only where the points have one."""
    graph = points.requires_grad
    with torch.inference_mode(False), torch.enable_grad():
        # A copy, since a tensor made in inference mode can never be differentiated with respect to.
        at = points if graph else points.detach().clone().requires_grad_()
        value = function(at)
        if not value.requires_grad:
            return torch.zeros_like(points)
        gradient = torch.autograd.grad(value.sum(), at, create_graph=graph)[0]
    return manifold.tangential(points, gradient)


def _normal(manifold: Submanifold, points: Tensor, vectors: Tensor) -> Tensor:
    return vectors - manifold.tangential(points, vectors)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _rms_on(manifold: Submanifold, normal: bool, seed: int, length_scale: float, features: int) -> float:
    """Root mean square over the uniform law on M of the tangential, or normal, part of a `GradientError`'s unit field.

    On charts of one or two coordinates by quadrature with 4,096 nodes, exact to many digits where the nodes resolve the
    length scale; else from 4,096 fixed uniform draws, right to about 1%. Fewer of either where the points have above
    4,096 entries, so that they fit 128 MiB.
    """
    count = max(1, min(NODES, MEMORY // math.prod(manifold.image_shape)))
    if manifold.axes and manifold.dim <= 2:
        points, weights = manifold.quadrature(round(count ** (1 / manifold.dim)))
    else:
        points = manifold.sample(count, seed=0)
        weights = torch.ones(count, dtype=torch.float64)
    field = GradientError(seed=seed, length_scale=length_scale, features=features).unit(points)
    part = _normal(manifold, points, field) if normal else manifold.tangential(points, field)
    return float(((part.flatten(1).square().sum(1) * weights).sum() / weights.sum()).sqrt())


@dataclasses.dataclass(frozen=True, kw_only=True)
class TangentialError(ManifoldError, FourierError):
    """A gradient along a manifold, u(x) = grad_M phi(P_M x): it moves the law on M and leaves M where it is.

    P_M: nearest point; the field does not depend on the distance to M. Plain Langevin dynamics has the law
    p_data exp(tilt) on M (Li et al. 2025, Theorem 4.1 (2)).

    manifold: one of priors.manifolds, or a priors.Manifold, whose manifold is taken. potential: phi, a differentiable
    function of points (..., d) -> (...), on an `Embedded` manifold of the points inside, as for priors.Manifold; used
    as it is, so the size is that of its own gradient, for instance sup 2 for cos(2 theta + 1) on the unit circle. None:
    the random potential of `GradientError` of the same seed and options, scaled so that the root mean square of |u|_2
    over the uniform law on M is 1. That scale is found once: by quadrature with 4,096 nodes where M has a chart of one
    or two coordinates, else from 4,096 fixed uniform draws, which are right to about 1%.

    Raises TypeError for another manifold or potential; ValueError when x is not of the manifold's shape.
    """

    potential: LogDensity | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.potential is None or callable(self.potential)):
            raise TypeError(f"potential must be None or callable on points, got {type(self.potential).__name__}")

    @property
    def _random(self) -> GradientError:
        """The error whose potential, restricted to M, is the random one."""
        rms = _rms_on(self.support, False, self.seed, self.length_scale, self.features)
        return GradientError(1 / rms, seed=self.seed, length_scale=self.length_scale, features=self.features)

    def unit(self, x: Tensor) -> Tensor:
        """grad_M phi(P_M x), like x (B, *image_shape)."""
        points = self.support.project(x)
        if self.potential is None:
            return self.support.tangential(points, self._random(points, 1.0))
        return _tangential_gradient(self.support, _on_points(self.support, "potential", self.potential), points)

    def tilt(self, x: Tensor, sigma: Sigma) -> Tensor:
        """amplitude sigma^exponent phi(P_M x), (B,): what the error adds to log p_data, up to a constant."""
        self.check(x)
        points, scale = self.support.project(x), self._scale(x, sigma).reshape(-1)
        if self.potential is None:
            return scale * self._random.potential(points, 1.0)
        return scale * _on_points(self.support, "potential", self.potential)(points)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalError(ManifoldError, FourierError):
    """A field across a manifold, u(x) = N(P_M x) grad phi(P_M x), N the projection onto the normal space.

    It moves the cloud off M by about sigma^2 |e|, so that sizes of o(sigma^-2) keep the law on M as sigma -> 0 (Li et
    al. 2025, Theorem 4.1 (1)), and drives nothing along M. The field does not depend on the distance to M. phi: the
    random potential of `GradientError` of the same seed and options, scaled so that the root mean square of |u|_2 over
    the uniform law on M is 1; how that is found: `TangentialError`.

    manifold: one of priors.manifolds, or a priors.Manifold, whose manifold is taken.
    Raises TypeError for another manifold; ValueError when x is not of the manifold's shape.
    """

    def unit(self, x: Tensor) -> Tensor:
        """The normal part of the random field at P_M x, like x (B, *image_shape)."""
        points = self.support.project(x)
        rms = _rms_on(self.support, True, self.seed, self.length_scale, self.features)
        field = GradientError(seed=self.seed, length_scale=self.length_scale, features=self.features)
        return _normal(self.support, points, field.unit(points)) / rms


@dataclasses.dataclass(frozen=True, kw_only=True)
class DensityError(ManifoldError):
    """The error that turns one density on a manifold into another, u(x) = grad_M (target - log_density)(P_M x).

    With amplitude 1 and exponent 0, plain Langevin dynamics has the law with log-density `target` instead of
    `log_density`, and one of order 1 reaches any C1 density (Li et al. 2025, Theorem 4.1 (2)); with amplitude t the law
    on the geometric path between the two. Size: that of the difference of the densities; `size` measures it.

    manifold: one of priors.manifolds; or a priors.Manifold, which brings its own log_density. log_density, target:
    unnormalised, with respect to the volume: a differentiable function of points (..., d) -> (...), on an `Embedded`
    manifold of the points inside, as for priors.Manifold; or a priors.Manifold, whose density is taken; or None for
    uniform. The seed is not used: nothing is drawn.

    Raises TypeError for another manifold or density; ValueError for a log_density beside that of a priors.Manifold, for
    a priors.Manifold with points of another shape, and when x is not of the manifold's shape.
    """

    log_density: LogDensity | Manifold | None = None
    target: LogDensity | Manifold | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.manifold, Manifold) and self.log_density is not None:
            raise ValueError(
                f"log_density must be None where manifold is a prior with its own, got {self.log_density!r}"
            )
        for name in ("log_density", "target"):
            self._check_density(name)

    def _check_density(self, name: str) -> None:
        value = getattr(self, name)
        if not (value is None or callable(value)):
            kind = type(value).__name__
            raise TypeError(f"{name} must be None, callable on points or a priors.Manifold, got {kind}")
        if isinstance(value, Manifold) and value.image_shape != self.support.image_shape:
            raise ValueError(f"{name} must be on the manifold of the error, {self.support!r}, got {value.manifold!r}")

    def _difference(self, points: Tensor) -> Tensor:
        """target - log_density at points of M, (B,)."""
        given = self.manifold if isinstance(self.manifold, Manifold) else self.log_density
        return self._log_density("target", self.target, points) - self._log_density("log_density", given, points)

    def _log_density(self, name: str, density: LogDensity | Manifold | None, points: Tensor) -> Tensor:
        if density is None:
            return points.new_zeros(len(points))
        if isinstance(density, Manifold):
            return density.log_density_on(points)
        return _on_points(self.support, name, density)(points)

    @classmethod
    def in_words(cls, settings: Mapping[str, Any]) -> tuple[str, str]:
        return "the error is", f"{_power(settings)} times that which gives the target density"

    def unit(self, x: Tensor) -> Tensor:
        """grad_M (target - log_density)(P_M x), like x (B, *image_shape)."""
        return _tangential_gradient(self.support, self._difference, self.support.project(x))

    def tilt(self, x: Tensor, sigma: Sigma) -> Tensor:
        """amplitude sigma^exponent (target - log_density)(P_M x), (B,): what the error adds to log p_data."""
        self.check(x)
        return self._scale(x, sigma).reshape(-1) * self._difference(self.support.project(x))
