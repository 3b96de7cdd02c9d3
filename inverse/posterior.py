"""The problem: a prior, a physics and a measurement."""

from __future__ import annotations

import copy
import functools
import math

import torch
from deepinv.physics import BlurFFT, Physics, StackedPhysics
from deepinv.utils import TensorList
from torch import Tensor

import operators
from priors import Denoiser, GaussianMixture, Manifold, MaximumEntropy, Perturbed
from priors.axpy import axpy
from priors.base import Prior, Sigma

from .exact import ExactPosterior, mixture_posterior
from .exact_manifold import ManifoldPosterior


class Posterior:
    """p(x | y) proportional to p(x) p(y | A x), for each measurement of a batch on its own.

    prior: a `priors.Prior`, or any deepinv denoiser. physics: any deepinv Physics with a noise model.
    y: measurements (B, ...), as `physics(x)` gives them; neither changed nor kept with gradients. A TensorList of a
    StackedPhysics and complex ones are kept as real vectors (B, m), and the physics as `operators.flattened` of it.
    image_shape: only needed where neither the prior nor the physics knows it.
    Raises TypeError for a prior or physics of another kind, or a y of another precision than the prior's weights,
    ValueError for a y that the physics cannot have given, for a prior of another image shape, and for an A_adjoint of
    your own physics that is not the transpose of its A.
    """

    def __init__(
        self, prior: Prior, physics: Physics, y: Tensor | TensorList, image_shape: tuple[int, ...] | None = None
    ) -> None:
        if not isinstance(physics, Physics):
            raise TypeError(f"physics must be a deepinv Physics, got {type(physics).__name__}")
        if not isinstance(prior, Prior):
            if not isinstance(prior, torch.nn.Module):
                raise TypeError(f"prior must be a Prior or a deepinv denoiser, got {type(prior).__name__}")
            prior = Denoiser(prior)
        self.prior = prior
        self.image_shape = _image_shape(prior, physics, y, image_shape)
        physics, y = operators.as_real(operators.with_image_shape(physics, self.image_shape), y, self.image_shape)
        self.physics = physics
        operators.check_measurement(physics, y, self.image_shape)
        operators.check_own_adjoint(physics, self.image_shape, y.dtype)
        _check_device(prior, y)
        _check_precision(prior, physics, y, self.image_shape)
        self.y = y.detach()

    def __len__(self) -> int:
        """Number of measurements."""
        return len(self.y)

    @functools.cached_property
    def linear(self) -> bool:
        """Whether the physics is a LinearPhysics."""
        return operators.is_linear(self.physics)

    @functools.cached_property
    def likelihood(self) -> operators.Likelihood:
        """p(y | x) from the physics' noise model. Raises ValueError where there is no density."""
        return operators.likelihood(self.physics)

    @functools.cached_property
    def curvature(self) -> float | Tensor:
        """Lipschitz constant of grad_x -log p(y | x): |A|^2 / s^2 for Gaussian noise s; a number or (B, 1, ..., 1).

        For other noise it is |A|^2 times the largest Fisher information, judged at the data.
        """
        return self.sqnorm * self.information

    @functools.cached_property
    def information(self) -> float | Tensor:
        """Largest Fisher information about an entry of A x, judged at the data; a number or (B, 1, ..., 1)."""
        information = torch.as_tensor(self.likelihood.information(self.y), dtype=self.y.dtype, device=self.y.device)
        return _number_or_per_image(information, len(self.image_shape))

    def gain(self, d: Tensor) -> float | Tensor:
        """|A d| / |d|, a number or (B, 1, ..., 1), 0 for d = 0; |A| where A is not linear. d: (B, *image_shape).

        The curvature of -log p(y | x) along d is information gain^2 for Gaussian noise, and at most that for any other.
        """
        if not self.linear:
            return self.sqnorm**0.5
        seen = self.physics.A(d) if self._diagonal is None else d * self._diagonal
        after, before = (_norm(v, len(self.image_shape)) for v in (seen, d))
        if after.numel() > 1 or after.device.type != "cpu":
            return after / before.clamp_min(1e-30)
        return float(after) / max(float(before), 1e-30)

    @functools.cached_property
    def spread(self) -> float:
        """Standard deviation of the prior per pixel, root mean square."""
        return self.prior.radius(self.image_shape) / math.prod(self.image_shape) ** 0.5

    @functools.cached_property
    def noise_variance(self) -> Tensor:
        """s^2 of Gaussian noise, () or one value per measurement, (B, 1, ..., 1) as y."""
        variance = torch.as_tensor(self.likelihood.sigma, dtype=self.y.dtype, device=self.y.device) ** 2
        return variance.reshape(()) if variance.numel() == 1 else variance.reshape(-1, *[1] * (self.y.ndim - 1))

    @functools.cached_property
    def sqnorm(self) -> float:
        """|A|^2, the largest squared singular value of the physics (of its Jacobian where it is not linear)."""
        return operators.sqnorm(self.physics, self.image_shape)

    @functools.cached_property
    def _weighted(self) -> tuple[float | Tensor, Tensor] | None:
        """-1 / s^2, times A^T A where that is diagonal, and y / s^2, or A^T y / s^2 for `_in_one`.

        None unless A is linear and the noise Gaussian.
        """
        if not (self.linear and isinstance(self.likelihood, operators.GaussianLikelihood)):
            return None
        y = self.physics.A_adjoint(self.y) if self._in_one else self.y
        precision = _number_or_per_image(1 / self.noise_variance, y.ndim - 1)
        weight = -precision if self._diagonal is None else -precision * self._diagonal.square()
        return weight, precision * y

    @functools.cached_property
    def _diagonal(self) -> Tensor | None:
        """a with A x = a x, where there is one."""
        return operators.diagonal(self.physics)

    @functools.cached_property
    def _in_one(self) -> bool:
        """Whether A^T A is cheaper than A and A^T one after the other."""
        return self._diagonal is not None or isinstance(self.physics, BlurFFT)

    def likelihood_score(self, x: Tensor) -> Tensor:
        """grad_x log p(y | x), like x (B, *image_shape)."""
        if self._weighted is None:
            return self.likelihood.score(x, self.y)
        weight, y = self._weighted
        if self._diagonal is not None:
            return axpy(weight, x, y)
        if self._in_one:
            return axpy(weight, self.physics.A_adjoint_A(x), y)
        return self.physics.A_adjoint(axpy(weight, self.physics.A(x), y))

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(y | x), (B,), normalised over y. x: (B, *image_shape)."""
        return -self.likelihood.nll(x, self.y)

    def score(self, x: Tensor, sigma: Sigma) -> Tensor:
        """grad log p_sigma(x) + grad log p(y | x): the drift of Langevin dynamics at one noise level.

        With a MaximumEntropy prior this is the drift of Eq. 10 of Li et al. 2025. x: (B, *image_shape).
        """
        return self.prior.score(x, sigma) + self.likelihood_score(x)

    def chains(self, index: Tensor) -> Posterior:
        """The problems y[index], so that several chains of each measurement lie in one batch. index: (N,)."""
        return _Chains(self, index)

    def without_weight_gradients(self) -> Posterior:
        """The same problem, the prior's weights shared but not differentiated: Jacobian products cost a third."""
        if not any(weight.requires_grad for weight in self.prior.parameters()):
            return self
        tensors = (*self.prior.parameters(), *self.prior.buffers())
        problem = copy.copy(self)
        problem.prior = copy.deepcopy(self.prior, {id(tensor): tensor.detach() for tensor in tensors})
        return problem

    def exact(self) -> ExactPosterior:
        """The posterior without sampling error: what every sampler is judged by.

        GaussianMixture and Empirical priors with a linear physics and Gaussian noise: a mixture of Gaussians.
        Manifold priors with any likelihood: quadrature on the chart; wrapped in MaximumEntropy, with the uniform
        density; wrapped in Perturbed, without the error.
        Raises TypeError or ValueError, with the reason, for every other problem.
        """
        prior = self.prior
        if isinstance(prior, GaussianMixture):
            return mixture_posterior(prior, self.physics, self.y)
        if isinstance(unwrapped(prior), Manifold):
            return ManifoldPosterior(prior, self.physics, self.y, self.likelihood)
        raise TypeError(
            "exact() knows the posterior of GaussianMixture, Empirical and Manifold priors only, "
            f"got {type(prior).__name__}"
        )


def unwrapped(prior: Prior) -> Prior:
    """The prior inside MaximumEntropy and Perturbed."""
    while isinstance(prior, MaximumEntropy | Perturbed):
        prior = prior.prior
    return prior


class _Chains(Posterior):
    """A Posterior whose measurements are picked, with repetition, from another one that was already checked."""

    def __init__(self, posterior: Posterior, index: Tensor) -> None:
        self.prior = posterior.prior
        self.physics = operators.per_image(posterior.physics, index)
        self.image_shape = posterior.image_shape
        self.y = posterior.y[index]
        self.sqnorm = posterior.sqnorm
        if self.physics is posterior.physics:  # nothing in it is per image
            self.likelihood = posterior.likelihood


def _norm(v: Tensor, axes: int) -> Tensor:
    norm = torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)
    return norm if v.ndim == axes + 1 else norm.reshape(-1, *[1] * axes)


def _number_or_per_image(value: Tensor, axes: int) -> float | Tensor:
    return value.reshape(-1, *[1] * axes) if value.numel() > 1 else float(value)


def _check_device(prior: Prior, y: Tensor) -> None:
    """ValueError unless some of the prior's tensors, where it has any, are where y is; hooks may bring the others."""
    devices = {tensor.device for tensor in (*prior.parameters(), *prior.buffers())}
    if devices and y.device not in devices and not any(hasattr(module, "_hf_hook") for module in prior.modules()):
        came = ", ".join(sorted(map(str, devices)))
        raise ValueError(
            f"prior must be on the device of y, {y.device}, got one on {came}; use prior.to({str(y.device)!r})"
        )


def _check_precision(prior: Prior, physics: Physics, y: Tensor, image_shape: tuple[int, ...]) -> None:
    """TypeError unless y and A x have the precision of the prior's weights; priors without weights take any.

    Weights of fewer than 32 bits are left to the network, which has to convert what it is given in any case.
    """
    weights = {weight.dtype for weight in prior.parameters()} & {torch.float32, torch.float64}
    if not weights:
        return
    if y.dtype not in weights:
        needed, way = ("float32", "y.float()") if y.dtype == torch.float64 else ("float64", "y.double()")
        raise TypeError(f"y must be {needed} like the prior's weights, got {_short(y.dtype)}; use {way}")
    with torch.no_grad():
        given = physics.A(torch.zeros(1, *image_shape, dtype=y.dtype, device=y.device)).dtype
    if given != y.dtype:
        way = "physics.float()" if given == torch.float64 else "physics.double()"
        raise TypeError(
            f"physics must keep {_short(y.dtype)} images like the prior's weights, but gives {_short(given)}; use {way}"
        )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _image_shape(
    prior: Prior, physics: Physics, y: Tensor | TensorList, image_shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The image shape on which prior, physics and caller agree; ValueError where they do not."""
    known = {"image_shape": image_shape, "physics": _img_size(physics), "prior": prior.image_shape}
    shapes = {name: tuple(shape) for name, shape in known.items() if shape is not None}
    if not shapes and operators.is_linear(physics):
        shapes["physics"] = _back_projected(physics, y)
    if not shapes:
        raise ValueError("image_shape is needed, since neither the prior nor the physics knows it: got None")
    if len(set(shapes.values())) > 1:
        came = " and ".join(f"{name} has {shape}" for name, shape in shapes.items())
        raise ValueError(f"prior and physics must have one image shape, but {came}")
    return next(iter(shapes.values()))


def _img_size(physics: Physics) -> tuple[int, ...] | None:
    """The image shape that a physics, or one of its parts, was made for."""
    if isinstance(physics, StackedPhysics):
        return next(filter(None, map(_img_size, physics.physics_list)), None)
    return getattr(physics, "img_size", None)


def _back_projected(physics: Physics, y: Tensor | TensorList) -> tuple[int, ...]:
    """Shape of A^T y without its batch axis."""
    if not isinstance(y, Tensor | TensorList):
        raise TypeError(f"y must be a torch tensor (B, *measurement_shape), got {type(y).__name__}")
    try:
        return tuple(physics.A_adjoint(y.detach()).shape[1:])
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            "image_shape is needed, since neither the prior nor the physics knows it and A_adjoint of "
            f"{type(physics).__name__} does not tell it, got from that: {error}; give your physics "
            "LinearPhysics(..., img_size=(C, H, W))"
        ) from error
