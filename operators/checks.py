"""The arguments that several operators share, each checked where it enters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Number, Real

import numpy as np
import torch
from torch import Tensor


def check_image_shape(image_shape: Sequence[int] | None, argument: str = "image_shape") -> tuple[int, ...]:
    """image_shape as a tuple (C, H, W) or (d,) of positive integers; TypeError or ValueError otherwise."""
    if isinstance(image_shape, str) or not isinstance(image_shape, Sequence):
        raise TypeError(f"{argument} must be a tuple (C, H, W) or (d,), got {shown(image_shape)}")
    if not all(isinstance(size, Integral) and not isinstance(size, bool) for size in image_shape):
        raise TypeError(f"{argument} must hold integers, got {tuple(image_shape)}")
    if len(image_shape) not in (1, 3) or min(image_shape) < 1:
        raise ValueError(f"{argument} must be (C, H, W) or (d,) with sizes of at least 1, got {tuple(image_shape)}")
    return tuple(int(size) for size in image_shape)


def check_planar(name: str, image_shape: tuple[int, ...]) -> None:
    """ValueError unless image_shape is (C, H, W): the operator `name` acts in the image plane."""
    if len(image_shape) != 3:
        raise ValueError(f"image_shape must be (C, H, W) for {name}, got {image_shape}")


def check_number(argument: str, value: float, low: float, high: float = math.inf) -> float:
    """value as a float in (low, high]; TypeError when it is no number, ValueError when it lies outside."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{argument} must be a number, got {shown(value)}")
    if not (math.isfinite(value) and low < value <= high):
        limit = "" if math.isinf(high) else f" and at most {high:g}"
        raise ValueError(f"{argument} must be finite, above {low:g}{limit}, got {value}")
    return float(value)


def check_integer(argument: str, value: int, low: int, high: int | None = None) -> int:
    """value as an int in [low, high]; TypeError when it is no integer, ValueError when it lies outside."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{argument} must be an integer, got {shown(value)}")
    if value < low or (high is not None and value > high):
        limit = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{argument} must be {limit}, got {value}")
    return int(value)


def shown(value: object) -> str:
    """value in a sentence: written out where that is short, else by its type."""
    return repr(value) if value is None or isinstance(value, (str, Number)) else type(value).__name__


def check_array(argument: str, value: Tensor | np.ndarray | Sequence) -> Tensor:
    """value as a new finite tensor of torch's default dtype; TypeError, ValueError.

    A torch tensor in float64 stays so, being a choice; numpy arrays in float64 are none.
    """
    try:
        array = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{argument} must be a tensor or an array of numbers, got {type(value).__name__}") from None
    if array.is_complex():
        raise TypeError(f"{argument} must hold real numbers, got {array.dtype}")
    precise = isinstance(value, Tensor) and value.dtype == torch.float64
    dtype = torch.float64 if precise else torch.get_default_dtype()
    array = array.detach().to(dtype, copy=True)
    if not bool(torch.isfinite(array).all()):
        raise ValueError(f"{argument} must be finite, got NaN or infinite values")
    return array


def generator(seed: int, stream: int = 0) -> torch.Generator:
    """A generator of its own for one purpose (stream), so that the global random state is left alone."""
    seed = check_integer("seed", seed, 0, 2**48)
    # Distinct multiples of an odd number: the streams of one seed do not meet those of the next seeds.
    return torch.Generator().manual_seed(seed + stream * 0x9E3779B97F4B)
