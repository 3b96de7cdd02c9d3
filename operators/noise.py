"""The noise model of a physics: from the `noise` argument, and back to one number."""

from __future__ import annotations

import copy
from numbers import Real

import torch
from deepinv.physics import GaussianNoise, NoiseModel, Physics, ZeroNoise
from torch import Tensor

from .checks import check_array, check_number, generator

_NOISE_STREAM = 1


def as_noise_model(noise: float | Tensor | NoiseModel, seed: int) -> NoiseModel:
    """The noise model that `noise` asks for, with a random generator of its own, seeded.

    noise: standard deviation in units of the measurement, 0 for none; a tensor (B,) with one per image; or a deepinv
    NoiseModel, of which a copy is taken, so that the caller's object keeps its generator.
    Raises ValueError when negative, NaN or infinite, TypeError when it is none of these.
    """
    rng = generator(seed, _NOISE_STREAM)
    if isinstance(noise, NoiseModel):
        return _seeded(noise, rng)
    if isinstance(noise, Real) and not isinstance(noise, bool):
        if float(noise) == 0:
            return ZeroNoise()
        return GaussianNoise(check_number("noise", noise, 0), rng=rng)
    if not isinstance(noise, Tensor):
        raise TypeError(f"noise must be a standard deviation or a deepinv NoiseModel, got {type(noise).__name__}")
    sigma = check_array("noise", noise)
    if sigma.ndim > 1 or sigma.numel() == 0 or not bool((sigma > 0).all()):
        raise ValueError(
            f"noise must hold standard deviations above 0, one or one per image, got shape {tuple(sigma.shape)} "
            f"with values {sigma.flatten()[:4].tolist()}"
        )
    return GaussianNoise(sigma, rng=rng)


def noise_sigma(physics: Physics) -> Tensor | None:
    """Standard deviation of the physics' Gaussian noise: () or, one per image, (B,); None for any other noise."""
    model = physics.noise_model
    if not isinstance(model, GaussianNoise):
        return None
    return model.sigma.reshape(()) if model.sigma.numel() == 1 else model.sigma.flatten()


def _seeded(model: NoiseModel, rng: torch.Generator) -> NoiseModel:
    if model.rng is not None:
        return model
    model = copy.copy(model)
    model._buffers = dict(model._buffers, initial_random_state=rng.get_state())
    model.rng = rng
    return model
