"""Priors by name, and learned priors as files: safetensors whose header says how to rebuild the prior.

Nothing is ever unpickled.
"""

from __future__ import annotations

import difflib
import json
import os
import textwrap
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import classical
from .base import Prior
from .preconditioned import Preconditioned
from .unet import UNet

FORMAT = "scorefold prior 1"
SUFFIX = ".safetensors"
LONGEST_REASON = 160
VALUE_RANGE = "[0, 1]"


def available() -> list[str]:
    """Names for `load`: the learned priors that come with the package, and classical denoisers, if installed."""
    return sorted([*learned(), *classical.available()])


def learned() -> list[str]:
    """Names of the learned priors that come with the package."""
    files = resources.files(__package__) / "weights"
    return sorted(Path(file.name).stem for file in files.iterdir() if file.name.endswith(SUFFIX))


def load(name: str | Path) -> Prior:
    """The prior of that name (see `available`), or in that safetensors file, on the CPU, ready to sample from.

    The weights of a learned prior ask for no gradients, so that differentiating through it costs no more than it must.
    Raises ValueError for an unknown name, naming the nearest known one, and for a file that is truncated, of another
    format or version, or a pickle; FileNotFoundError for a path with nothing behind it; ImportError, with the extra,
    for bm3d without its package.
    """
    path = Path(name)
    if path.is_file():
        return read(path)
    if path.suffix or len(path.parts) != 1 or path.exists():
        raise FileNotFoundError(
            f"prior must be a name of priors.available() or a weights file, and there is no file {str(name)!r}"
        )
    if str(name) in classical.BY_NAME:
        return classical.BY_NAME[str(name)]()
    if str(name) not in learned():
        nearest = difflib.get_close_matches(str(name), available(), n=1, cutoff=0.0)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ", and none is installed"
        raise ValueError(f"prior must be one of {', '.join(available())} or a weights file, got {str(name)!r}{hint}")
    with resources.as_file(resources.files(__package__) / "weights" / f"{name}{SUFFIX}") as shipped:
        return read(shipped)


def save(prior: Preconditioned, path: str | Path, about: Mapping[str, str] | None = None) -> None:
    """Write a learned prior to a safetensors file that `load` reads, whole or not at all.

    about: what else the header shall tell, in words (licence, data, seed); it comes back as `prior.about`.
    Raises ValueError for one that is prepared for inference in another network than its own.
    """
    path = Path(path)
    if not hasattr(prior.network, "config"):
        how = f" (in {prior.inference})" if prior.inference else ""
        raise ValueError(f"prior must have a UNet to be saved, got {type(prior.network).__name__}{how}")
    design = {
        "network": prior.network.config,
        "mean": prior.mean,
        "std": prior.std,
        "image_shape": prior.image_shape,
        "sigma_range": prior.sigma_range,
    }
    words = {**prior.about, **(about or {}), "value_range": VALUE_RANGE}
    header = {**words, "format": FORMAT, "design": json.dumps(design)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in prior.network.state_dict().items()}
    temporary = path.with_name(f"{path.name}.part")
    save_file(tensors, temporary, metadata=header)
    temporary.chmod(0o644)
    os.replace(temporary, path)


def read(path: Path) -> Preconditioned:
    """The prior in a file that `save` wrote; ValueError, in one sentence, for any other file."""
    header, tensors = read_tensors(path, FORMAT, "weights of a prior")
    try:
        design = json.loads(header["design"])
        prior = build(design)
        prior.network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # whatever a foreign design makes of the network
        reason = textwrap.shorten(str(error).strip().splitlines()[-1], LONGEST_REASON, placeholder=" ...")
        raise ValueError(f"{path} must hold the weights its header describes, and does not: {reason}") from None
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ValueError(f"{path} must hold finite weights, got some that are not")
    prior.about = {key: header[key] for key in sorted(header) if key not in ("format", "design")}
    # Convolutions are a fifth faster on a CPU with the channels last.
    return prior.requires_grad_(False).eval().to(memory_format=torch.channels_last)


def build(design: Mapping[str, Any], seed: int = 0) -> Preconditioned:
    """The prior of that design, its weights as the seed draws them; leaves the global random state alone."""
    shape = design["image_shape"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(**design["network"])
    return Preconditioned(
        network, design["mean"], design["std"], None if shape is None else tuple(shape), tuple(design["sigma_range"])
    )


def read_tensors(path: Path, form: str, needed: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a safetensors file whose header says `format: form`; ValueError for any other file."""
    header, tensors = read_safetensors(path, needed)
    if header.get("format") != form:
        got = repr(header["format"]) if "format" in header else "a file without one"
        raise ValueError(f"{path} must hold the {needed} in the format {form!r}, got {got}")
    return header, tensors


def read_safetensors(path: Path, needed: str, conversion: str = "") -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of any safetensors file. conversion: what to tell of a pickle, after that it is one.

    Raises ValueError for a pickle and for whatever else is no safetensors file.
    """
    with path.open("rb") as file:
        start = file.read(8)
    # A zip archive or a pickle: what torch.save writes, now or of old.
    if start.startswith((b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise ValueError(
            f"{path} must be a safetensors file with the {needed}, got a pickle, which is never loaded{conversion}"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} must be a safetensors file, and is truncated or of another kind: {error}") from None
    return header, tensors
