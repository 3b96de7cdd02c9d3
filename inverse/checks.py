"""Arguments that are wrong are refused in one sentence."""

from __future__ import annotations

import numbers


def whole(name: str, value: object, least: int | None = 1) -> int:
    """value, if it is a whole number of at least `least` (None: of any size); else ValueError names the argument."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise ValueError(f"{name} must be a whole number{bound}, got {value!r}")
    return int(value)


def seed_number(value: object) -> int:
    """A seed, if it is a whole number from 0 to 2^63 - 1; else ValueError."""
    seed = whole("seed", value, 0)
    if seed >= 2**63:
        raise ValueError(f"seed must be below 2^63, got {seed}")
    return seed
