"""What every error of a score has in common: a size, and how it is put into a prior."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from priors import MaximumEntropy, Perturbed
from priors.base import Prior

E = TypeVar("E", bound="PriorError")


@dataclasses.dataclass(frozen=True)
class PriorError:
    """A way in which a prior can be wrong, of a size `amplitude` that a sweep varies.

    A subclass writes `perturb`, which returns the prior with the error in it.
    Raises ValueError unless the amplitude is finite and at least 0.
    """

    amplitude: float = 1.0

    def __post_init__(self) -> None:
        value = self.amplitude
        if isinstance(value, str | bool) or not (math.isfinite(value) and value >= 0):
            raise ValueError(f"amplitude must be a finite number of at least 0, got {value!r}")

    def scaled(self: E, amplitude: float) -> E:
        """The same error with another amplitude."""
        return dataclasses.replace(self, amplitude=amplitude)

    def perturb(self, prior: Prior) -> Prior:
        """The prior with the error in it; the given one is unchanged."""
        raise NotImplementedError

    @classmethod
    def in_words(cls, settings: Mapping[str, Any]) -> tuple[str, str]:
        """What stands before and after an amplitude in a sentence. settings: as the error `describe`s itself."""
        return "the amplitude of the error is", ""


class ScoreError(PriorError):
    """A field e(x, sigma) that is added to the score; a subclass writes `__call__`."""

    def perturb(self, prior: Prior) -> Prior:
        return Perturbed(prior, self)


def in_words(settings: Mapping[str, Any]) -> tuple[str, str]:
    """The same of an error by its description, as rows have it; in general words where its class is not known here."""
    known = {kind.__name__: kind for kind in _kinds(PriorError)}
    return known.get(settings.get("error", ""), PriorError).in_words(settings)


def _kinds(kind: type[PriorError]) -> Iterator[type[PriorError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _kinds(below)


def inject(error: PriorError, prior: Prior) -> Prior:
    """The prior with a wrong score: inside a MaximumEntropy prior, since its score is made of the wrong one."""
    if not isinstance(prior, MaximumEntropy):
        return error.perturb(prior)
    options = {name: getattr(prior, name) for name in ("alpha", "method", "sigma_ref", "pairs", "seed")}
    return MaximumEntropy(error.perturb(prior.prior), **options)
