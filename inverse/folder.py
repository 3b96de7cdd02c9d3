"""A folder of somebody's pictures, read for a training: what cannot be used is left out and told, never guessed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from inverse import images
from priors.crops import grey as luminance
from priors.crops import smaller

LEAST_SIDE = 8
# Bytes of all images together; larger ones are brought to a scale at which they fit.
MEMORY = 2**30
MOST_PIXELS = 2**21


class Pictures(NamedTuple):
    """images: uint8 (C, H, W), C 1 for all or 3 for all. names: one for each. skipped: file and reason. notes: told."""

    images: list[Tensor]
    names: list[str]
    skipped: list[tuple[str, str]]
    notes: list[str]

    def digest(self) -> str:
        """What the images are, in twelve characters."""
        together = hashlib.sha256()
        for image in self.images:
            together.update(_digest(image))
        return together.hexdigest()[:12]


def read(folder: str | Path, grey: bool = False) -> Pictures:
    """All pictures in a folder and the folders in it, in the order of their names.

    Pictures that Pillow or else scikit-image reads, and .npy arrays as `images.read_array` takes them. Transparent
    parts lie over white, 16 bits become 8; all are made grey if `grey` is set or all are, else all have three channels.
    Files that are no picture, pictures below 8 pixels a side and copies of another are skipped. A picture above 2
    megapixels, or above its share of 1 GiB, is brought to a scale at which it is not.
    Raises ValueError for a folder without pictures, NotADirectoryError for what is no folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"FOLDER must be a folder with images, got {folder}")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder)))
    most = min(MOST_PIXELS, MEMORY // (4 * max(len(files), 1)))
    found: dict[bytes, tuple[str, Tensor]] = {}
    skipped, reduced = [], 0
    for path in files:
        name = path.relative_to(folder).as_posix()
        try:
            for each, image in _pictures(path, name):
                key = _digest(image)
                if min(image.shape[1:]) < LEAST_SIDE:
                    skipped.append((each, f"{image.shape[2]} x {image.shape[1]} pixels: too small"))
                elif key in found:
                    skipped.append((each, f"the same as {found[key][0]}"))
                else:
                    scale = min(1.0, math.sqrt(most / math.prod(image.shape[1:])))
                    reduced += scale < 1
                    found[key] = each, smaller(image, scale)
        except (ValueError, OSError) as error:
            skipped.append((name, " ".join(str(error).replace(str(path), "it").split())))
    if not found:
        raise ValueError(f"FOLDER must hold images, got {folder} with {len(files)} files, none of which can be used")
    notes = [f"{reduced} images were made smaller, to {most / 1e6:.2g} megapixels"] if reduced else []
    names = [name for name, _ in found.values()]
    return Pictures(_alike([image for _, image in found.values()], grey, notes), names, skipped, notes)


def _alike(found: list[Tensor], grey: bool, notes: list[str]) -> list[Tensor]:
    """All images with one channel, or all with three."""
    depths = [len(image) for image in found]
    if grey or max(depths) == 1:
        if max(depths) == 3:
            notes.append(f"{depths.count(3)} images were made grey")
        return [image if len(image) == 1 else _bytes(luminance(image[None].float() / 255)[0]) for image in found]
    if min(depths) == 1:
        notes.append(f"{depths.count(1)} grey images were given three equal channels")
    return [image.expand(3, -1, -1).contiguous() for image in found]


def _pictures(path: Path, name: str) -> Iterator[tuple[str, Tensor]]:
    """Name and image (C, H, W), uint8, of each image in a file."""
    if path.suffix == ".npy":
        batch = images.read_array(path)
        for index, image in enumerate(batch):
            yield name if len(batch) == 1 else f"{name}[{index}]", _bytes(image)
    else:
        yield name, _bytes(_read(path))


def _read(path: Path) -> Tensor:
    """A picture file, (C, H, W) float32 in [0, 1], by Pillow or else by scikit-image."""
    try:
        return images.read_picture(path)
    except ValueError as error:
        values = _by_scikit_image(path)
        if values is None:
            raise error from None
    return _checked(values)


def _by_scikit_image(path: Path) -> np.ndarray | None:
    from skimage import io as skimage_io  # slow to import, and few need it

    # Its readers are many and raise what they please about a file that is none of theirs; some print or warn as well.
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            return np.asarray(skimage_io.imread(path))
        except Exception:
            return None


def _checked(values: np.ndarray) -> Tensor:
    """Pixels (H, W), (H, W, 3) or (H, W, 4) of any type as (C, H, W) float32 in [0, 1]; ValueError for others."""
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise ValueError(f"it must be one picture, grey or in colour, got an array of shape {values.shape}")
    if values.dtype.kind not in "buf":
        raise ValueError(f"it must hold unsigned bytes, 16 bits or numbers in [0, 1], got {values.dtype}")
    scale = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1
    pixels = torch.from_numpy(np.atleast_3d(values / scale).transpose(2, 0, 1).astype(np.float32))
    if pixels.numel() == 0 or not bool(((pixels >= 0) & (pixels <= 1)).all()):
        got = "nothing" if pixels.numel() == 0 else f"values from {pixels.min():g} to {pixels.max():g}"
        raise ValueError(f"it must have values in [0, 1], got {got}")
    return pixels if len(pixels) != 4 else pixels[:3] * pixels[3:] + 1 - pixels[3:]


def _bytes(image: Tensor) -> Tensor:
    return (image * 255).round().to(torch.uint8)


def _digest(image: Tensor) -> bytes:
    return hashlib.sha256(repr(tuple(image.shape)).encode() + image.numpy().tobytes()).digest()


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
