"""Operators by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence

from deepinv.physics import NoiseModel, Physics
from torch import Tensor

from . import blurs, fourier, masks, matrices, nonlinear, superresolution, tomography
from .checks import check_image_shape
from .noise import as_noise_model

_BUILDERS: dict[str, Callable[..., Physics]] = {
    "blur": blurs.blur,
    "box-inpainting": masks.box_inpainting,
    "compressed-sensing": matrices.compressed_sensing,
    "demosaicing": masks.demosaicing,
    "denoising": masks.denoising,
    "fourier": fourier.fourier,
    "gaussian-blur": blurs.gaussian_blur,
    "inpainting": masks.inpainting,
    "matrix": matrices.matrix,
    "motion-blur": blurs.motion_blur,
    "phase-retrieval": nonlinear.phase_retrieval,
    "saturation": nonlinear.saturation,
    "super-resolution": superresolution.super_resolution,
    "tomography": tomography.tomography,
}


def available() -> list[str]:
    """Names that `create` knows, in alphabetical order."""
    return sorted(_BUILDERS)


def create(
    name: str,
    image_shape: Sequence[int],
    *,
    noise: float | Tensor | NoiseModel = 0.0,
    seed: int = 0,
    **options: object,
) -> Physics:
    """The forward operator `name` for images of one shape, as a deepinv Physics: y = noise(A(x)).

    name: one of `available()`. image_shape: (C, H, W); also (d,) for denoising, inpainting, matrix,
    compressed-sensing and saturation. noise: standard deviation in units of the measurement, a tensor of one per image,
    or a deepinv NoiseModel; 0 for no noise, which has no likelihood. seed: of what is random in the operator and of the
    noise that `physics(x)` draws; the global random state is neither read nor changed. options: those of the
    operator, listed in the help of its function.
    Linear ones have their singular-value decomposition, as deepinv's DecomposablePhysics; without are tomography, blurs
    whose edges do not wrap around with a kernel that is no column times a row or with more than 512 pixels a side, and
    matrices of more than 2,048 columns, where none is cheap.
    Raises ValueError or TypeError for what it cannot use, with the nearest known name.
    """
    builder = _BUILDERS.get(name) if isinstance(name, str) else None
    if builder is None:
        raise ValueError(f"operator must be one of {', '.join(available())}, got {name!r}{_nearest(name, available())}")
    known = [p.name for p in inspect.signature(builder).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise TypeError(
                f"options of {name} are {', '.join(known) or 'none'}, got {option!r}{_nearest(option, known)}"
            )
    shape = check_image_shape(image_shape)
    physics = builder(shape, as_noise_model(noise, seed), seed, **options)
    physics.img_size = shape  # not every deepinv class keeps it
    physics._asked = {"name": name, "seed": seed, "options": options}  # for reports; private, no part of its values
    return physics


def _nearest(word: object, known: Sequence[str]) -> str:
    match = difflib.get_close_matches(str(word), known, n=1, cutoff=0.4)
    return f"; did you mean {match[0]!r}?" if match else ""
