"""Fashion-MNIST, read from the gzipped files it is published in: 60,000 + 10,000 grey images of 28x28, ten classes.

Xiao, Rasul and Vollgraf 2017, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
MIT licence. In Debian and Ubuntu it is the package dataset-fashion-mnist, which installs to `FOLDER`.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
ABOUT = "Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, MIT licence), its 60,000 training images"
PREFIXES = {"train": "train", "held-out": "t10k"}


def read(split: str, folder: str | Path = FOLDER) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28) as uint8 and labels (N,) as int64, of "train" (N = 60,000) or "held-out" (N = 10,000).

    Raises FileNotFoundError, saying how to get the data, when they are not in `folder`; ValueError for other files.
    """
    if split not in PREFIXES:
        raise ValueError(f"split must be 'train' or 'held-out', got {split!r}")
    prefix = Path(folder) / PREFIXES[split]
    images = read_idx(Path(f"{prefix}-images-idx3-ubyte.gz"))
    labels = read_idx(Path(f"{prefix}-labels-idx1-ubyte.gz"))
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"folder must hold images with one label each, got {tuple(images.shape)} and {tuple(labels.shape)}"
        )
    return images[:, None], labels.long()


def read_idx(path: Path) -> Tensor:
    """An idx file of unsigned bytes: two zeros, type 8, the number of axes, their lengths (big-endian), the bytes."""
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"Fashion-MNIST (MIT licence) is not at {path}: install the Debian package dataset-fashion-mnist, "
            "or name the folder that holds its four .gz files"
        ) from None
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} must be a gzipped idx file: {error}") from None
    axes = content[3] if len(content) > 3 else 0
    header = 4 + 4 * axes
    if content[:3] != b"\0\0\x08" or axes == 0 or len(content) < header:
        raise ValueError(f"{path} must be a gzipped idx file of unsigned bytes, got other content")
    shape = struct.unpack(f">{axes}I", content[4:header])
    values = torch.frombuffer(bytearray(content[header:]), dtype=torch.uint8)
    if len(values) != torch.Size(shape).numel():
        raise ValueError(f"{path} must hold {torch.Size(shape).numel()} bytes of data, got {len(values)}")
    return values.reshape(shape)
