"""Parameters per image: which a physics has, and how to lay several chains per image out in one batch."""

from __future__ import annotations

import copy

from deepinv.physics import NoiseModel, Physics
from torch import Tensor, nn

# Buffers whose first axis counts images when it is longer than 1, by name; all deepinv parameters follow this, except
# that noise parameters are per image already as (B,), and that a matrix or a list of angles has no batch axis.
_IMAGE_PARAMETERS = (
    *("mask", "filter", "angle", "transfer", "reflector", "power", "sampling", "coil_maps"),
    "noise_scales",
    *("vertical", "vertical_left", "vertical_right", "horizontal", "horizontal_left", "horizontal_right"),
)
_NOISE_PARAMETERS = ("sigma", "gain", "b")


def images_per_batch(physics: Physics) -> int | None:
    """Number of images that the physics' parameters are for; None when they serve any number."""
    sizes = {len(value) for module in physics.modules() for value in _image_parameters(module).values()}
    if len(sizes) > 1:
        raise ValueError(f"physics must have parameters for one number of images, got {sorted(sizes)}")
    return sizes.pop() if sizes else None


def each_image_has_its_own(physics: Physics) -> bool:
    """Whether the operator, its noise aside, differs from image to image."""
    return any(_image_parameters(module) for module in physics.modules() if not isinstance(module, NoiseModel))


def per_image(physics: Physics, batch_index: Tensor) -> Physics:
    """The physics whose image i uses the parameters that physics has for image batch_index[i].

    batch_index: (N,) integers. Returns physics itself when it has no parameters per image (noise levels (B,), masks or
    filters with a batch axis longer than 1), else a copy; the given one is unchanged.
    """
    return physics if images_per_batch(physics) is None else _indexed(physics, batch_index)


def _image_parameters(module: nn.Module) -> dict[str, Tensor]:
    names = _NOISE_PARAMETERS if isinstance(module, NoiseModel) else _IMAGE_PARAMETERS
    buffers = {name: module._buffers.get(name) for name in names}
    return {name: value for name, value in buffers.items() if value is not None and value.ndim and len(value) > 1}


def _indexed(module: nn.Module, batch_index: Tensor) -> nn.Module:
    """A copy that shares all tensors but those per image."""
    clone = copy.copy(module)
    picked = {name: value[batch_index] for name, value in _image_parameters(module).items()}
    clone.__dict__["_buffers"] = {**module._buffers, **picked}
    clone.__dict__["_modules"] = {
        name: child if child is None else _indexed(child, batch_index) for name, child in module._modules.items()
    }
    return clone
