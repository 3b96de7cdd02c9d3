"""a x + y in one pass over memory: beside a small network, a sampler's time is the number of its tensor operations."""

from __future__ import annotations

import torch
from torch import Tensor


def axpy(a: float | Tensor, x: Tensor, y: Tensor) -> Tensor:
    """a x + y. a: a number, or one per item (B, 1, ..., 1); x, y: (B, ...)."""
    return torch.addcmul(y, a, x) if isinstance(a, Tensor) else torch.add(y, x, alpha=a)


def axpy_(a: float | Tensor, x: Tensor, y: Tensor) -> Tensor:
    """y, to which a x was added in place."""
    return y.addcmul_(a, x) if isinstance(a, Tensor) else y.add_(x, alpha=a)
