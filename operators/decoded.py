"""Measurements of images that are decoded from latent variables, y = A(decode(z)) + noise."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from deepinv.physics import Physics
from torch import Tensor

from .checks import check_image_shape


class Decoded(Physics):
    """A(decode(z)) with the noise of the physics A. Not linear, whatever A is; z: (B, *latent_shape)."""

    def __init__(
        self, physics: Physics, decoder: Callable[[Tensor], Tensor], latent_shape: tuple[int, ...] | None
    ) -> None:
        super().__init__()
        # A copy that may be given another noise model; tensors and parts are shared.
        self.physics = copy.copy(physics)
        self.physics.__dict__["_modules"] = dict(physics._modules)
        # Not registered as a part: it may be a method of a prior, which moves between devices as its owner does, and
        # its buffers are no parameters of the measurement.
        self.__dict__["decoder"] = decoder
        self.noise_model = physics.noise_model
        self.img_size = latent_shape

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "noise_model" and "physics" in self._modules:
            self.physics.noise_model = value  # which adds it in its own way, masks for one only where they measure

    def noise(self, x: Tensor, **kwargs: object) -> Tensor:
        return self.physics.noise(x, **kwargs)

    def sensor(self, x: Tensor) -> Tensor:
        return self.physics.sensor(x)

    def A(self, z: Tensor, **kwargs: object) -> Tensor:
        return self.physics.A(self.decoder(z), **kwargs)

    def A_vjp(self, z: Tensor, v: Tensor) -> Tensor:
        """J^T v with J the Jacobian of A(decode(.)) at z: like z."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            return torch.autograd.grad(self.A(z), z, v)[0]


def decoded(
    physics: Physics, decoder: Callable[[Tensor], Tensor], latent_shape: Sequence[int] | None = None
) -> Physics:
    """The physics of images as one of the latent variables that they are decoded from: z -> A(decode(z)), and noise.

    With it a prior of latent variables, such as `priors.Diffusers(...)` of a latent pipeline with its `decode`, has a
    posterior, for samplers that take physics that are not linear: dps, annealed-langevin, langevin. Products with the
    Jacobian go through the decoder by automatic differentiation.

    physics: any deepinv Physics. decoder: z (B, *latent_shape) to images (B, *image_shape), in torch, differentiable;
    it is used as it is, on the device where it is. latent_shape: (C, H, W) or (d,), where no prior knows it.
    Raises TypeError for another kind of physics or decoder.
    """
    if not isinstance(physics, Physics):
        raise TypeError(f"physics must be a deepinv Physics, got {type(physics).__name__}")
    if not callable(decoder):
        raise TypeError(f"decoder must be a function of latent variables, got {type(decoder).__name__}")
    shape = None if latent_shape is None else check_image_shape(latent_shape, "latent_shape")
    return Decoded(physics, decoder, shape)
