"""Parameters per image: which a physics has, and how to lay several chains per image out in one batch."""

from __future__ import annotations

import copy

from deepinv.physics import Physics
from torch import Tensor, nn

# Buffers whose first axis counts images when it is longer than 1, by name; all deepinv parameters follow this, except
# that noise parameters are per image already as (B,), and that a matrix or a list of angles has no batch axis.
_IMAGE_PARAMETERS = ("mask", "filter", "angle", "transfer", "sampling", "coil_maps")
_NOISE_PARAMETERS = ("sigma", "gain", "b")


def images_per_batch(physics: Physics) -> int | None:
    """Number of images that the physics' parameters are for; None when they serve any number."""
    sizes = {len(value) for _, _, value in _per_image_buffers(physics)}
    if len(sizes) > 1:
        raise ValueError(f"physics must have parameters for one number of images, got {sorted(sizes)}")
    return sizes.pop() if sizes else None


def per_image(physics: Physics, batch_index: Tensor) -> Physics:
    """The physics whose image i uses the parameters that physics has for image batch_index[i].

    batch_index: (N,) integers. Returns physics itself when it has no parameters per image (noise levels (B,), masks or
    filters with a batch axis longer than 1), else a copy; the given one is unchanged.
    """
    entries = _per_image_buffers(physics)
    if not entries:
        return physics
    physics = _shallow(physics)
    physics.noise_model = _shallow(physics.noise_model)
    for in_noise, name, value in entries:
        owner = physics.noise_model if in_noise else physics
        owner._buffers[name] = value[batch_index]
    return physics


def _per_image_buffers(physics: Physics) -> list[tuple[bool, str, Tensor]]:
    found = []
    for in_noise, owner, names in (
        (False, physics, _IMAGE_PARAMETERS),
        (True, physics.noise_model, _NOISE_PARAMETERS),
    ):
        buffers = getattr(owner, "_buffers", {})
        for name in names:
            value = buffers.get(name)
            if isinstance(value, Tensor) and value.ndim > 0 and len(value) > 1:
                found.append((in_noise, name, value))
    return found


def _shallow(module: nn.Module) -> nn.Module:
    """A copy that shares all tensors but whose buffers and submodules can be replaced on their own."""
    clone = copy.copy(module)
    clone.__dict__.update(_buffers=dict(module._buffers), _modules=dict(module._modules))
    return clone
