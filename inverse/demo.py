"""The demonstration: three held-out images, three kinds of measurement, posterior samples of each.

The images are the first three of Fashion-MNIST's test set, which the prior has not seen; see demo_images/SOURCE.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import torch
from deepinv.physics import Physics
from torch import Tensor

import operators
from inverse import images
from inverse.driver import Sampler
from inverse.reconstruct import reconstruct
from inverse.samples import Samples
from priors import Prior

NOISE = 0.05
MEASUREMENTS: dict[str, dict[str, float]] = {
    "box-inpainting": {"size": 12},
    "gaussian-blur": {"width": 2.0},
    "compressed-sensing": {"ratio": 0.1},
}

# Hyper-parameters that keep the demonstration under a minute on two cores; the samplers' own defaults are slower.
QUICK: dict[str, list[tuple[str, object]]] = {"mmps": [("steps", 50), ("iterations", 3), ("eta", 1.0)]}


class Result(NamedTuple):
    """The samples of one kind of measurement, and the physics that made it."""

    name: str
    physics: Physics
    samples: Samples


@contextmanager
def image_paths() -> Iterator[list[Path]]:
    """The shipped images as files."""
    with resources.as_file(resources.files("inverse") / "demo_images") as folder:
        yield sorted(folder.glob("*.png"))


def truth(image_shape: tuple[int, ...] | None) -> Tensor:
    """The shipped images, (3, *image_shape), in [0, 1]."""
    with image_paths() as paths:
        return images.load(paths, image_shape).x


def run(
    truth: Tensor, prior: Prior, sampler: Sampler, n: int = 16, seed: int = 0, progress: bool = False
) -> Iterator[Result]:
    """n posterior samples of each image from each measurement of `MEASUREMENTS`, at noise `NOISE`, one kind at a time.

    truth: (B, C, H, W) in [0, 1], on the device to compute on. The measurements are made with the seed, on the CPU.
    """
    for name, options in MEASUREMENTS.items():
        physics = operators.create(name, tuple(truth.shape[1:]), noise=NOISE, seed=seed, **options)
        with torch.no_grad():
            y = physics(truth.cpu()).to(truth.device)
        physics = physics.to(truth.device)
        yield Result(name, physics, reconstruct(y, physics, prior, sampler, n, seed=seed, progress=progress))
