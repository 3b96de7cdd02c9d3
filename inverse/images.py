"""Images from files, brought to the shape that a prior is for; nothing is done to a picture without saying so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from priors.crops import grey


class OutOfRange(ValueError):
    """An array that holds no values of an image: some outside [0, 1], NaN, or none at all."""


class Images(NamedTuple):
    """x: (B, *image_shape) float32 in [0, 1]. names: one per image. notes: what was changed to fit the shape."""

    x: Tensor
    names: list[str]
    notes: list[str]


def load(paths: Sequence[str | Path], image_shape: tuple[int, ...] | None = None) -> Images:
    """Images of files as one batch.

    paths: pictures that Pillow reads, and .npy arrays (H, W), (N, H, W), (N, C, H, W) or (N, *image_shape).
    image_shape: shape to bring pictures to, (C, H, W): colour to grey by luminance or grey to three equal channels,
    then the largest centred part of the right proportions, then resampling with an anti-aliasing filter. None keeps
    each as it is, and all must be of one shape. Arrays of shape (N, *image_shape) are taken as they are.
    Raises ValueError for a file that holds no image, values outside [0, 1] and shapes that cannot be brought together.
    """
    if not paths:
        raise ValueError("paths must name at least one image, got none")
    images, names, notes = [], [], []
    for path in map(Path, paths):
        batch = read_array(path, image_shape) if path.suffix == ".npy" else read_picture(path)[None]
        shape = tuple(batch.shape[1:])
        if image_shape is not None and shape != tuple(image_shape):
            batch, note = fit(batch, image_shape, str(path))
            notes.append(note)
        images.append(batch)
        names += [path.stem] if len(batch) == 1 else [f"{path.stem}-{i}" for i in range(len(batch))]
    shapes = {tuple(batch.shape[1:]) for batch in images}
    if len(shapes) > 1:
        raise ValueError(f"images must all have one shape for this prior, got {' and '.join(map(str, sorted(shapes)))}")
    return Images(torch.cat(images), _distinct(names), notes)


def read_picture(path: str | Path) -> Tensor:
    """A picture file as (C, H, W) float32 in [0, 1]; C is 1 or 3.

    Turned as its camera says; palettes are looked up; transparent parts lie over white; 16-bit grey keeps its depth,
    16-bit colour is read with 8 bits. Raises ValueError for a file that is no image, FileNotFoundError for none.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no image at {path}: no such file")
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not an image that can be read: {error}") from error
    values = _grey_of_many_bits(picture, path)
    if values is None:
        values = np.asarray(_over_white(picture), dtype=np.float32) / 255
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def read_array(path: str | Path, image_shape: tuple[int, ...] | None = None) -> Tensor:
    """A .npy file of images as (N, C, H, W), or (N, *image_shape), float32 in [0, 1].

    The array is (H, W), (N, H, W), (N, C, H, W) or (N, *image_shape): uint8 or uint16, which are divided by their
    largest value, bool, or floats already in [0, 1]. Raises ValueError for anything else, also for a picture with its
    colours last, (H, W, 3); OutOfRange, a ValueError, for values outside [0, 1]. Nothing is unpickled.
    """
    array = load_npy(path)
    if array.dtype in (np.uint8, np.uint16):
        array = array / np.iinfo(array.dtype).max
    elif array.dtype != bool and array.dtype.kind != "f":
        raise ValueError(f"{path} must hold uint8, uint16, bool or floats in [0, 1], got {array.dtype}")
    values = torch.from_numpy(array.astype(np.float32))
    if values.numel() == 0 or not bool(((values >= 0) & (values <= 1)).all()):
        found = "nothing" if values.numel() == 0 else f"values from {values.min():g} to {values.max():g}"
        raise OutOfRange(f"{path} must hold images with values in [0, 1], got {found}")
    if image_shape is not None and tuple(values.shape[1:]) == tuple(image_shape):
        return values
    if values.ndim == 2:
        return values[None, None]
    if values.ndim == 3:
        _check_grey(values, path)
        return values[:, None]
    if values.ndim != 4 or values.shape[1] not in (1, 3):
        raise ValueError(f"{path} must be (H, W), (N, H, W) or (N, C, H, W) with C 1 or 3, got {tuple(values.shape)}")
    return values


def _check_grey(values: Tensor, path: str | Path) -> None:
    """ValueError where (N, H, W) has a last axis that is one of colours, and no width of an image of that height."""
    _, height, width = values.shape
    if width in (3, 4) and height >= 4 * width:
        raise ValueError(
            f"{path} must be (N, C, H, W) for images in colour, got {tuple(values.shape)}; "
            "use array[None, ..., :3].transpose(0, 3, 1, 2)"
        )


def load_npy(path: str | Path) -> np.ndarray:
    """The array of a .npy file. Raises ValueError for a file that is none, FileNotFoundError where there is none."""
    if not Path(path).exists():
        raise FileNotFoundError(f"no array at {path}: no such file")
    try:
        return np.lib.format.open_memmap(path, mode="r").copy()
    except (ValueError, OSError, EOFError, SyntaxError) as error:
        raise ValueError(f"{path} is not a .npy array that can be read: {error}") from error


def fit(images: Tensor, image_shape: tuple[int, ...], name: str = "image") -> tuple[Tensor, str]:
    """(N, C, H, W) brought to (N, *image_shape), and one line that says how many and how. See `load`."""
    if len(image_shape) != 3 or image_shape[0] not in (1, 3):
        raise ValueError(f"{name} must have shape {tuple(image_shape)} for this prior, got {tuple(images.shape[1:])}")
    channels, height, width = image_shape
    steps = []
    if channels != images.shape[1]:
        steps.append("made grey" if channels == 1 else "made three equal channels")
        images = grey(images) if channels == 1 else images.repeat(1, 3, 1, 1)
    was = images.shape[-2:]
    scale = min(was[0] / height, was[1] / width)
    crop = round(height * scale), round(width * scale)
    if crop != tuple(was):
        steps.append(f"cropped from {was[1]} x {was[0]} to its centre {crop[1]} x {crop[0]}")
        top, left = (was[0] - crop[0]) // 2, (was[1] - crop[1]) // 2
        images = images[..., top : top + crop[0], left : left + crop[1]]
    if crop != (height, width):
        steps.append(f"resampled from {crop[1]} x {crop[0]} to {width} x {height}")
        images = torch.nn.functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
    found = [f"{len(images)} images"] if len(images) > 1 else []
    return images.clamp(0, 1), f"{name}: {', '.join(found + steps)}"


def write_png(path: str | Path, image: Tensor) -> None:
    """(1, H, W) or (3, H, W) in [0, 1] as an 8-bit PNG; values outside are clipped, as a screen would."""
    values = (image.detach().cpu().clamp(0, 1) * 255).round().byte().movedim(0, -1).squeeze(-1).numpy()
    Image.fromarray(values).save(path)


def _distinct(names: list[str]) -> list[str]:
    """The names, each with its place in front where two are the same."""
    return names if len(set(names)) == len(names) else [f"{i}-{name}" for i, name in enumerate(names)]


def _grey_of_many_bits(picture: Image.Image, path: Path) -> np.ndarray | None:
    """16-bit and floating-point grey pictures as floats in [0, 1]; None for the others."""
    if not picture.mode.startswith(("I", "F")):
        return None
    values = np.asarray(picture, dtype=np.float64)
    top = 1.0 if picture.mode == "F" else 65535.0
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= top):
        raise ValueError(f"{path} must have values in [0, {top:g}], got {values.min():g} to {values.max():g}")
    return values / top


def _over_white(picture: Image.Image) -> Image.Image:
    """An 8-bit picture as mode L where it is grey by its mode, else RGB, transparency over white."""
    mode = "L" if picture.mode in ("1", "L", "LA", "La") else "RGB"
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert(mode)
