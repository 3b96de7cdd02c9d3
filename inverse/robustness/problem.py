"""One reconstruction problem of a sweep."""

from __future__ import annotations

import dataclasses

from deepinv.physics import Physics
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A physics, its measurements and, where they are known, the images behind them.

    physics: any deepinv Physics with a noise model. y: (B, *measurement_shape). truth: (B, *image_shape) or None.
    """

    physics: Physics
    y: Tensor
    truth: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.physics, Physics):
            raise TypeError(f"physics must be a deepinv Physics, got {type(self.physics).__name__}")
        if self.truth is not None and len(self.truth) != len(self.y):
            raise ValueError(f"truth must hold one image for each of {len(self.y)} measurements, got {len(self.truth)}")
