"""Arguments that are wrong are refused in one sentence."""

from __future__ import annotations

from torch import Tensor

from priors import Prior


def whole(name: str, value: object, least: int | None = 1) -> int:
    """value, if it is a whole number of at least `least` (None: of any size); else ValueError names the argument."""
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise ValueError(f"{name} must be a whole number{bound}, got {value!r}")
    return value


def differentiable(denoised: Tensor, prior: Prior, method: str) -> None:
    """Raise ValueError unless a denoised image, of an x that asks for gradients, can be differentiated."""
    if not denoised.requires_grad:
        kind = type(getattr(prior, "denoiser", prior)).__name__
        raise ValueError(
            f"prior must have a denoiser that can be differentiated for {method}, got {kind}; "
            "use mmps-spectral, annealed-langevin or langevin"
        )
