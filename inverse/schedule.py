"""Noise levels, from the largest to the smallest."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=64)
def karras(sigma_max: float, sigma_min: float, steps: int, rho: float = 7.0) -> tuple[float, ...]:
    """`steps` levels, evenly spaced in sigma^(1/rho) (Karras et al. 2022, Eq. 5)."""
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return tuple((high + (low - high) * i / max(1, steps - 1)) ** rho for i in range(steps))


@functools.lru_cache(maxsize=64)
def geometric(sigma_max: float, sigma_min: float, steps: int) -> tuple[float, ...]:
    """`steps` levels of constant ratio (Song and Ermon 2019)."""
    return tuple(sigma_max * (sigma_min / sigma_max) ** (i / max(1, steps - 1)) for i in range(steps))
