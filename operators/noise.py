"""The noise model of a physics: from the `noise` argument, and back to one number."""

from __future__ import annotations

import copy
from numbers import Real

import torch
from deepinv.physics import (
    GaussianNoise,
    LaplaceNoise,
    NoiseModel,
    Physics,
    PoissonGaussianNoise,
    PoissonNoise,
    ZeroNoise,
)
from torch import Tensor

from .checks import check_array, check_number, generator, shown

_NOISE_STREAM = 1
_ROUNDING = 64  # in units of the last place of the largest value; that of an FFT grows as the logarithm of its length


def as_noise_model(noise: float | Tensor | NoiseModel, seed: int) -> NoiseModel:
    """The noise model that `noise` asks for, with a random generator of its own, seeded.

    noise: standard deviation in units of the measurement, 0 for none; a tensor (B,) with one per image; or a deepinv
    NoiseModel, of which a copy is taken, so that the caller's object keeps its generator.
    Raises ValueError when negative, NaN or infinite, TypeError when it is none of these.
    """
    rng = generator(seed, _NOISE_STREAM)
    if isinstance(noise, NoiseModel):
        _check_parameters(noise)
        return _seeded(noise, rng)
    if isinstance(noise, (int, float, Real)) and not isinstance(noise, bool):
        if float(noise) == 0:
            return ZeroNoise()
        return GaussianNoise(check_number("noise", float(noise), 0), rng=rng)
    if not isinstance(noise, Tensor):
        raise TypeError(
            "noise must be a standard deviation or a deepinv NoiseModel such as deepinv.physics.PoissonNoise(0.1), "
            f"got {shown(noise)}"
        )
    sigma = check_array("noise", noise).to(torch.get_default_dtype())  # or y would be promoted
    if sigma.ndim > 1 or sigma.numel() == 0 or not bool((sigma > 0).all()):
        raise ValueError(
            f"noise must hold standard deviations above 0, one or one per image, got shape {tuple(sigma.shape)} "
            f"with values {sigma.flatten()[:4].tolist()}"
        )
    return GaussianNoise(sigma, rng=rng)


def noise_sigma(physics: Physics) -> Tensor | None:
    """Standard deviation of the physics' Gaussian noise: () or, one per image, (B,); None for any other noise."""
    return noise_parameter(physics, "sigma") if type(physics.noise_model) is GaussianNoise else None


def noise_parameter(physics: Physics, name: str) -> Tensor:
    """A parameter of the physics' noise model, () or, one per image, (B,).

    Raises ValueError unless it is finite, above 0, and one number or one per image: (B,), or (B, 1, ..., 1).
    """
    model = physics.noise_model
    value = getattr(model, name)
    owner = f"{name} of {type(model).__name__}"
    if not bool((torch.isfinite(value) & (value > 0)).all()):
        raise ValueError(f"{owner} must be finite and above 0, got {value.flatten()[:4].tolist()}")
    if value.numel() == 1:
        return value.reshape(())
    # deepinv spreads one value per image over the entries itself, except for LaplaceNoise.
    if value.numel() != len(value) or (isinstance(model, LaplaceNoise) and value.ndim == 1):
        needed = "(B, 1, ..., 1)" if isinstance(model, LaplaceNoise) else "(B,)"
        raise ValueError(f"{owner} must be one number or one per image, {needed}, got shape {tuple(value.shape)}")
    return value.flatten()


def countable(z: Tensor, model: NoiseModel) -> Tensor:
    """z = A(x), (B, ...), as photons can be counted: negative rounding is set to 0 where the noise is Poisson's.

    For operators that go through an FFT, which leaves values like -1e-9 where A(x) is 0. This is done to what is
    counted and not in A, so that A stays linear and A^T its transpose to the last bit; and values that are negative
    beyond rounding are still refused by deepinv, which its clip_positive=True would hide.
    """
    if not isinstance(model, (PoissonNoise, PoissonGaussianNoise)):
        return z
    size = z.abs().flatten(1).amax(dim=1).reshape(-1, *[1] * (z.ndim - 1))
    return torch.where((z < 0) & (z >= -_ROUNDING * torch.finfo(z.dtype).eps * size), 0.0, z)


def _check_parameters(model: NoiseModel) -> None:
    for name in ("sigma", "gain", "b"):
        value = model._buffers.get(name)
        if value is not None and not bool((torch.isfinite(value) & (value >= 0)).all()):
            came = value.flatten()[:4].tolist()
            raise ValueError(f"noise must be finite and not negative, got {type(model).__name__} with {name} {came}")


def _seeded(model: NoiseModel, rng: torch.Generator) -> NoiseModel:
    if model.rng is not None:
        return model
    model = copy.copy(model)
    model._buffers = dict(model._buffers, initial_random_state=rng.get_state())
    model.rng = rng
    return model
