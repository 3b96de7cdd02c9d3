"""Runs of one sampler for a ladder of error amplitudes with the same random numbers.

Chains with different amplitudes that share their noise differ by what the error does alone, so that the distance
between them tends to 0 with the amplitude instead of to the distance of two independent runs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from inverse.driver import InvalidStateError, Run, Sampler
from inverse.posterior import Posterior
from priors import Perturbed
from priors.base import Prior, Sigma

from .base import PriorError, ScoreError, inject


def run(
    sampler: Sampler, posterior: Posterior, error: PriorError, amplitudes: Sequence[float], n: int, seed: int
) -> list[Tensor | Exception]:
    """Samples (n, B, *image_shape) for each amplitude, or what went wrong with it.

    The hyper-parameters are chosen from the prior without error. A field that is added to the score is run in one
    batch for all amplitudes, since their denoiser is the same.
    """
    sampler.check(posterior)
    chosen = sampler.resolve(posterior)
    if isinstance(error, ScoreError):
        try:
            return list(_batched(chosen, posterior, error, amplitudes, n, seed))
        except InvalidStateError:
            pass  # one amplitude may have failed alone
    return [_single(chosen, posterior, error, amplitude, n, seed) for amplitude in amplitudes]


def _single(
    sampler: Sampler, posterior: Posterior, error: PriorError, amplitude: float, n: int, seed: int
) -> Tensor | Exception:
    try:
        wrong = copy.copy(posterior)
        wrong.prior = inject(error.scaled(amplitude), posterior.prior) if amplitude else posterior.prior
        with torch.no_grad():
            x = Run(sampler, wrong, n, seed, None, None).run(False)
    except Exception as failure:
        return failure
    return x.reshape(n, len(posterior), *posterior.image_shape)


def _batched(
    sampler: Sampler, posterior: Posterior, error: ScoreError, amplitudes: Sequence[float], n: int, seed: int
) -> Tensor:
    """(amplitudes, n, B, *image_shape)."""
    ladder = _Ladder(posterior, error, amplitudes)
    with torch.no_grad():
        x = _CoupledRun(sampler, ladder, n, seed, None, None).run(False)
    return x.reshape(n, len(amplitudes), len(posterior), *posterior.image_shape).transpose(0, 1)


class _Ladder(Posterior):
    """A problem once for each amplitude: its measurement a * B + b is measurement b with amplitude a."""

    def __init__(self, posterior: Posterior, error: ScoreError, amplitudes: Sequence[float]) -> None:
        self.posterior, self.error = posterior, error.scaled(1.0)
        self.amplitudes = torch.tensor(amplitudes, dtype=posterior.y.real.dtype, device=posterior.y.device)
        self.prior, self.physics, self.image_shape = posterior.prior, posterior.physics, posterior.image_shape
        self.y = posterior.y.repeat(len(amplitudes), *[1] * (posterior.y.ndim - 1))

    def chains(self, index: Tensor) -> Posterior:
        problem = self.posterior.chains(index % len(self.posterior))
        size = self.amplitudes[index // len(self.posterior)].reshape(-1, *[1] * len(self.image_shape))
        problem.prior = inject(_PerChain(self.error, size), self.prior)
        return problem


class _PerChain(PriorError):
    """A field times an amplitude of its own for each chain."""

    def __init__(self, error: ScoreError, size: Tensor) -> None:
        super().__init__()
        object.__setattr__(self, "error", error)
        object.__setattr__(self, "size", size)

    def perturb(self, prior: Prior) -> Prior:
        def field(x: Tensor, sigma: Sigma) -> Tensor:
            return self.size * self.error(x, sigma)

        return Perturbed(prior, field)


class _CoupledRun(Run):
    """A run whose chains with different amplitudes get the same noise."""

    def _draw(self, fields: int) -> list[Tensor]:
        ladder = self.posterior
        ladder_size, batch = len(ladder.amplitudes), len(ladder.posterior)
        shape, full = self.shape, self.shape[0]
        self.shape = (full // ladder_size, *shape[1:])
        drawn = super()._draw(fields)
        self.shape = shape
        n = full // (ladder_size * batch)
        return [
            field.reshape(n, 1, batch, *shape[1:]).expand(n, ladder_size, batch, *shape[1:]).reshape(shape)
            for field in drawn
        ]
