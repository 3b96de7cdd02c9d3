"""The grid of a sweep: what is varied, the cells it has, and the keys under which their results are kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from numbers import Real
from typing import Any

import torch

from inverse.checks import whole
from inverse.driver import Sampler
from inverse.posterior import Posterior
from priors.base import Prior

from .base import PriorError
from .fingerprint import fingerprint
from .problem import Problem
from .tuning import Tuned

# Rows of another format are refused; raise it when the meaning of a column changes.
FORMAT = 2
AXES = ("problem", "prior", "sampler", "error", "sigma", "seed")


@dataclasses.dataclass(frozen=True)
class Group:
    """Cells that differ in the amplitude alone, which are run together."""

    problem: str
    prior: str
    sampler: str
    error: str
    sigma: float
    seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """Everything that determines the results of a sweep; see `inverse.robustness.sweep` for the arguments."""

    problems: Mapping[str, Problem | Callable[[int], Problem]]
    priors: Mapping[str, Prior]
    samplers: Mapping[str, Sampler | Tuned]
    errors: Mapping[str, PriorError]
    amplitudes: tuple[float, ...]
    sigmas: tuple[float, ...]
    seeds: tuple[int, ...]
    n: int

    def __post_init__(self) -> None:
        for name in ("problems", "priors", "samplers", "errors", "amplitudes", "sigmas", "seeds"):
            if not len(getattr(self, name)):
                raise ValueError(f"{name} must not be empty, got a grid without cells")
        for name in ("amplitudes", "sigmas"):
            for value in getattr(self, name):
                if not (math.isfinite(value) and value > 0):
                    raise ValueError(f"{name} must be finite and above 0, got {value}")
        for name in ("amplitudes", "sigmas", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must differ from each other, got {list(values)}")
        for seed in self.seeds:
            if whole("seeds", seed, 0) >= 2**63:
                raise ValueError(f"seeds must be below 2^63, got {seed}")
        if whole("n", self.n, least=None) < 2:
            raise ValueError(f"n must be at least 2 chains, to have a spread, got {self.n}")
        self._check_members()

    def _check_members(self) -> None:
        for key, value in self.problems.items():
            if not (isinstance(value, Problem) or callable(value)):
                raise TypeError(
                    "problems must be of class Problem, or functions of the seed, "
                    f"got {type(value).__name__} for {key!r}"
                )
        for name, kind in (("priors", Prior), ("samplers", Sampler | Tuned), ("errors", PriorError)):
            for key, value in getattr(self, name).items():
                if not isinstance(value, kind):
                    wanted = getattr(kind, "__name__", str(kind))
                    raise TypeError(f"{name} must be of class {wanted}, got {type(value).__name__} for {key!r}")
        for key, sampler in self.samplers.items():
            if isinstance(sampler, Tuned) and set(sampler.seeds) & set(self.seeds):
                raise ValueError(f"seeds must not be among those that {key!r} is tuned on, got {list(self.seeds)}")
        for key, prior in self.priors.items():
            low, high = prior.sigma_range
            for sigma in self.sigmas:
                if not low <= sigma <= high:
                    raise ValueError(
                        f"sigmas must be in the range of prior {key!r}, {low:g} to {high:g}, got {sigma:g}"
                    )

    def groups(self) -> list[Group]:
        """All groups, seeds outermost, so that a sweep which is cut off has whole curves.

        Within a seed the small noise levels come first: they take the most steps, and at the end of a sweep only short
        groups are left, which several workers share evenly.
        """
        names = product(self.seeds, sorted(self.sigmas), self.problems, self.samplers, self.errors, self.priors)
        return [
            Group(problem, prior, sampler, error, sigma, seed) for seed, sigma, problem, sampler, error, prior in names
        ]

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.groups()) * len(self.amplitudes)

    def keys(self, group: Group) -> list[str]:
        """The key of each amplitude's cell: a digest of all that determines its row."""
        parts = self._digests
        base = fingerprint(
            FORMAT,
            [parts[axis, getattr(group, axis)] for axis in ("problem", "prior", "sampler", "error")],
            [group.sigma, group.seed, self.n, list(self.amplitudes)],
        )
        return [fingerprint(base, amplitude)[:32] for amplitude in self.amplitudes]

    @property
    def fingerprint(self) -> str:
        """Digest of the whole grid."""
        return fingerprint(FORMAT, [self.keys(group) for group in self.groups()])

    @property
    def _digests(self) -> dict[tuple[str, str], str]:
        # computed once, before any run has touched the objects
        if "digests" not in self.__dict__:
            found = {}
            for axis, members in zip(AXES, (self.problems, self.priors, self.samplers, self.errors), strict=False):
                found.update({(axis, key): fingerprint(key, value) for key, value in members.items()})
            object.__setattr__(self, "digests", found)
        return self.__dict__["digests"]

    def problem(self, group: Group, seed: int | None = None) -> tuple[Posterior, torch.Tensor | None]:
        """The problem of a group, with its prior without error, and the images behind it where they are known.

        seed: of the problem, where it is a function of the seed; None is the group's.
        """
        problem = self.problems[group.problem]
        if not isinstance(problem, Problem):
            problem = problem(group.seed if seed is None else seed)
        return Posterior(self.priors[group.prior], problem.physics, problem.y), problem.truth


def at_level(sampler: Sampler, sigma: float) -> Sampler:
    """The sampler at a noise level: `sigma` of one with a single level, else `sigma_min`."""
    level = "sigma" if any(field.name == "sigma" for field in dataclasses.fields(sampler)) else "sigma_min"
    return dataclasses.replace(sampler, **{level: sigma})


def real_numbers(name: str, values: Any) -> tuple[float, ...]:
    """A list, range, array or tensor of real numbers; ValueError for one number alone, text and truth values."""
    return tuple(float(value) for value in _listed(name, values, Real, "numbers"))


def whole_numbers(name: str, values: Any) -> tuple[int, ...]:
    """The same of whole numbers, of which none is rounded."""
    return tuple(_listed(name, values, int, "whole numbers"))


def _listed(name: str, values: Any, kind: type, wanted: str) -> list[Any]:
    values = _plain(values)
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{name} must be a list of {wanted}, got {values!r}")
    items = [_plain(value) for value in values]
    if not all(isinstance(item, kind) and not isinstance(item, bool) for item in items):
        raise ValueError(f"{name} must be a list of {wanted}, got {items!r}")
    return items


def _plain(value: Any) -> Any:
    """The numbers of an array or tensor."""
    return value.tolist() if hasattr(value, "tolist") else value


def named(what: str, members: Any, kind: type) -> dict[str, Any]:
    """Members as a mapping from names: one alone, several, or a mapping already."""
    if isinstance(members, Mapping):
        return {str(key): value for key, value in members.items()}
    several: Sequence[Any] = members if isinstance(members, list | tuple) else [members]
    names = [getattr(member, "name", None) or type(member).__name__ for member in several]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"{what} must be a mapping from names where two are {sorted(repeated)[0]}, got a list")
    return dict(zip(names, several, strict=True))
