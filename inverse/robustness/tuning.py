"""Hyper-parameters of a sampler chosen by trial, on seeds other than those that are reported."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from inverse import metrics
from inverse.checks import whole
from inverse.driver import Sampler
from inverse.posterior import Posterior

from . import coupled, distances
from .base import PriorError

EXACT_SEED = 800_000


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A sampler whose hyper-parameters are tried out, for `samplers` of a sweep.

    sampler: with the others. options: values of each hyper-parameter to try, all combinations of them.
    each_error: False tunes once, on the prior without error, as a user would; True tunes again for each error and
    amplitude, as nobody can who does not know the truth. Side by side they tell what of a breakdown is the error's and
    what the setting's. seeds: of the trials; must not be among those that are reported.
    What is best: the smallest distance to the exact posterior where it is known, else the highest PSNR of the mean.
    Raises TypeError for another sampler, ValueError for no options or no seeds.
    """

    sampler: Sampler
    options: Mapping[str, Sequence[float]]
    each_error: bool = False
    seeds: tuple[int, ...] = (900_000, 900_001)

    def __post_init__(self) -> None:
        if not isinstance(self.sampler, Sampler):
            raise TypeError(f"sampler must be a Sampler, got {type(self.sampler).__name__}")
        if not self.options or not all(len(values) for values in self.options.values()):
            raise ValueError(f"options must hold values to try, got {dict(self.options)}")
        if not self.seeds:
            raise ValueError("seeds must hold at least one seed for the trials, got none")
        for seed in self.seeds:
            whole("seeds", seed, 0)
        self.trials()  # refuses an unknown name or a value out of range at once

    def trials(self) -> list[Sampler]:
        """The sampler with each combination of the options."""
        known = {field.name for field in dataclasses.fields(self.sampler)}
        for name in self.options:
            if name not in known:
                raise ValueError(f"options must be hyper-parameters of {self.sampler.name}, got {name!r}")
        combinations = itertools.product(*self.options.values())
        return [dataclasses.replace(self.sampler, **dict(zip(self.options, c, strict=True))) for c in combinations]

    def choose(
        self,
        at_level: Callable[[Sampler], Sampler],
        problem: Callable[[int], tuple[Posterior, Tensor | None]],
        error: PriorError,
        amplitudes: Sequence[float],
        n: int,
    ) -> list[Sampler]:
        """The best of the trials for each amplitude of an error. problem: seed -> posterior without error, truth."""
        trials, losses = self.trials(), []
        cases = [(*problem(seed), seed) for seed in self.seeds]
        references = [_reference(posterior, truth, n) for posterior, truth, _ in cases]
        for sampler in trials:
            totals = [0.0] * len(amplitudes)
            for (posterior, truth, seed), reference in zip(cases, references, strict=True):
                runs = coupled.run(at_level(sampler), posterior, error, amplitudes, n, seed)
                totals = [total + _loss(x, reference, truth) for total, x in zip(totals, runs, strict=True)]
            losses.append(totals)
        return [trials[column.index(min(column))] for column in zip(*losses, strict=True)]


def _reference(posterior: Posterior, truth: Tensor | None, n: int) -> Tensor | None:
    """Exact draws, or None where there are none and the truth has to do."""
    try:
        return posterior.exact().sample(n, EXACT_SEED).to(posterior.y.device)
    except (TypeError, ValueError):
        if truth is None:
            raise ValueError("problems must have a known posterior or a truth for tuning, got neither") from None
        return None


def _loss(x: Tensor | Exception, reference: Tensor | None, truth: Tensor | None) -> float:
    if isinstance(x, Exception):
        return math.inf
    if reference is not None:
        return distances.moved(x, reference.to(x))["distance"]
    return -float(metrics.psnr(x.mean(0), torch.as_tensor(truth)).mean())
