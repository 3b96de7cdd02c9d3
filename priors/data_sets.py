"""What a prior is trained on: batches that are a function of (seed, step), so that a resumed run sees the same ones."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class DataSet(Protocol):
    """Images to train on. channels: C of the batches, or all that occur. image_shape: (C, H, W), None for any size."""

    @property
    def channels(self) -> int | tuple[int, ...]: ...

    @property
    def image_shape(self) -> tuple[int, ...] | None: ...

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation over all pixels, in [0, 1]."""
        ...

    def batch(self, count: int, seed: int, step: int) -> Tensor:
        """The images of a step, (count, C, h, w) float32 in [0, 1]."""
        ...


class Images:
    """Images of one size, in memory: every epoch is a new permutation of them. values: (N, C, H, W), see `unit`."""

    def __init__(self, values: Tensor):
        self.values = values
        self.channels: int = values.shape[1]
        self.image_shape: tuple[int, ...] | None = tuple(values.shape[1:])

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation over all pixels, in [0, 1]."""
        values = self.values.double() / (255 if self.values.dtype == torch.uint8 else 1)
        return values.mean().item(), values.std().item()

    def batch(self, count: int, seed: int, step: int) -> Tensor:
        """The images of a step, (count, C, H, W) float32 in [0, 1]."""
        return unit(self.values[chosen(len(self.values), count, seed, step)])


class Ahead:
    """A data set whose next batch is made while the network is busy with the last: the same batches, without a wait."""

    def __init__(self, data: DataSet):
        self.data = data
        self.channels, self.image_shape, self.moments = data.channels, data.image_shape, data.moments
        self._maker = ThreadPoolExecutor(1)
        self._next: dict[tuple[int, int, int], Future[Tensor]] = {}

    def batch(self, count: int, seed: int, step: int) -> Tensor:
        """The images of a step, (count, C, H, W) float32 in [0, 1]."""
        ready = self._next.pop((count, seed, step), None)
        following = (count, seed, step + 1)
        self._next = {following: self._maker.submit(self.data.batch, *following)}
        return self.data.batch(count, seed, step) if ready is None else ready.result()


def chosen(n: int, count: int, seed: int, step: int) -> Tensor:
    """Which of n images are in the batch of this step, (count,)."""
    positions = torch.arange(step * count, (step + 1) * count)
    indices = torch.empty_like(positions)
    for epoch in (positions // n).unique().tolist():
        here = positions // n == epoch
        indices[here] = epoch_order(n, seed, epoch)[positions[here] % n]
    return indices


@lru_cache(maxsize=2)
def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The permutation of n images in that epoch."""
    return torch.randperm(n, generator=generator(seed, 0, epoch))


def generator(*key: int) -> torch.Generator:
    """Random numbers that are a function of the key, (seed, what for, index)."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def unit(images: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1]; floats as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
