"""A sweep as a YAML file: every object by its name and its options, nothing that is executed."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

import inverse
import operators
import priors
from inverse import images
from inverse.driver import Sampler
from priors import manifolds
from priors.base import Prior

from . import errors, practical
from .base import PriorError
from .problem import Problem

FIELDS = ("problems", "priors", "samplers", "errors", "amplitudes", "sigmas", "seeds", "n")
PROBLEM = ("operator", "options", "noise", "seed", "image_shape", "y", "images")
PRIOR = ("load", "manifold", "von_mises_fisher", "of", "alpha", "method", "sigma_ref", "pairs")
ERRORS: dict[str, type[PriorError]] = {
    kind.__name__: kind
    for kind in (
        errors.GradientError,
        errors.SolenoidalError,
        errors.BiasError,
        errors.TangentialError,
        errors.NormalError,
        practical.WeightNoise,
        practical.Quantised,
    )
}


def read(path: str | Path) -> dict[str, Any]:
    """The arguments of `inverse.robustness.sweep` that a YAML file describes; see `inverse sweep --help`.

    Raises ValueError for what is no such description: an unknown field is named with the nearest known one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"config must be a YAML file, and there is none at {path}")
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config must be YAML, got {path}: {' '.join(str(error).split())}") from None
    config = _mapping("config", config)
    _known("config", config, FIELDS)
    for name in set(FIELDS) - {"seeds", "n"}:
        if name not in config:
            raise ValueError(f"config must have the field {name}, got {', '.join(config)}")
    laws = _priors(_mapping("priors", config["priors"]))
    shape = next((prior.image_shape for prior in laws.values() if prior.image_shape is not None), None)
    made = {
        "problems": _each("problems", config, lambda name, spec: _problem(name, spec, shape, path.parent)),
        "priors": laws,
        "samplers": _each("samplers", config, _sampler),
        "errors": _each("errors", config, lambda name, spec: _error(name, spec, laws)),
        "amplitudes": _numbers("amplitudes", config["amplitudes"]),
        "sigmas": _numbers("sigmas", config["sigmas"]),
    }
    seeds = config.get("seeds", 3)
    made["seeds"] = list(range(seeds)) if isinstance(seeds, int) else seeds
    return made | ({"n": config["n"]} if "n" in config else {})


def _problem(name: str, spec: dict[str, Any], shape: tuple[int, ...] | None, folder: Path) -> Problem:
    """{operator, options, noise, seed} and {y} or {images}: paths of pictures, relative to the file."""
    _known(name, spec, PROBLEM)
    shape = tuple(spec.get("image_shape", shape or ()))
    options = {
        key: torch.tensor(value) if isinstance(value, list) else value for key, value in spec.get("options", {}).items()
    }
    physics = operators.create(
        _needed(name, spec, "operator"), shape, noise=_needed(name, spec, "noise"), seed=spec.get("seed", 0), **options
    )
    if ("y" in spec) == ("images" in spec):
        raise ValueError(f"{name} must have either y or images, got {'both' if 'y' in spec else 'neither'}")
    if "y" in spec:
        return Problem(physics, torch.tensor(spec["y"], dtype=torch.get_default_dtype()))
    truth = images.load([folder / file for file in spec["images"]], shape)[0]
    with torch.no_grad():
        return Problem(physics, physics(truth), truth)


def _priors(specs: dict[str, Any]) -> dict[str, Prior]:
    """{load} a prior by name or path; {manifold, von_mises_fisher}; or {of} another with alpha, made geometric."""
    made: dict[str, Prior] = {}
    for name, spec in specs.items():
        spec = _mapping(name, spec)
        _known(name, spec, PRIOR)
        given = [key for key in ("load", "manifold", "of") if key in spec]
        if len(given) != 1:
            raise ValueError(f"{name} must have one of load, manifold, of, got {', '.join(given) or 'none'}")
        made[name] = {"load": _loaded, "manifold": _on_manifold, "of": _geometric}[given[0]](name, spec, made)
    return made


def _loaded(name: str, spec: dict[str, Any], made: dict[str, Prior]) -> Prior:
    return priors.load(spec["load"])


def _on_manifold(name: str, spec: dict[str, Any], made: dict[str, Prior]) -> Prior:
    """manifold: a name, or {name, then its arguments}."""
    manifold = spec["manifold"] if isinstance(spec["manifold"], dict) else {"name": spec["manifold"]}
    kinds = {n: k for n, k in vars(manifolds).items() if isinstance(k, type) and issubclass(k, manifolds.Submanifold)}
    kind, options = _named(name, manifold, kinds)
    try:
        density = manifolds.VonMisesFisher(**spec["von_mises_fisher"]) if "von_mises_fisher" in spec else None
        return priors.Manifold(kind(**options), density)
    except TypeError as error:
        raise ValueError(f"{name} must be given what its manifold takes: {error}") from None


def _geometric(name: str, spec: dict[str, Any], made: dict[str, Prior]) -> Prior:
    if spec["of"] not in made:
        raise ValueError(f"{name} must be of a prior above it, got {spec['of']!r}{_nearest(spec['of'], made)}")
    options = {key: spec[key] for key in ("alpha", "method", "sigma_ref", "pairs") if key in spec}
    return priors.MaximumEntropy(made[spec["of"]], **options)


def _sampler(name: str, spec: dict[str, Any]) -> Sampler:
    """{name, then its hyper-parameters}."""
    return inverse.sampler(_needed(name, spec, "name"), **{key: spec[key] for key in spec if key != "name"})


def _error(name: str, spec: dict[str, Any], laws: Mapping[str, Prior]) -> PriorError:
    """{name, then its options}; manifold: the name of a prior above, whose manifold is meant."""
    kind, options = _named(name, spec, ERRORS)
    known = [field.name for field in dataclasses.fields(kind) if field.name != "amplitude"]
    _known(name, options, known)
    if "manifold" in options:
        options["manifold"] = laws.get(options["manifold"])
    return kind(**options)


def _named(where: str, spec: dict[str, Any], kinds: Mapping[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    chosen = _needed(where, spec, "name")
    if chosen not in kinds:
        raise ValueError(f"{where} must be one of {', '.join(kinds)}, got {chosen!r}{_nearest(chosen, kinds)}")
    return kinds[chosen], {key: value for key, value in spec.items() if key != "name"}


def _each(field: str, config: dict[str, Any], make: Callable[[str, dict[str, Any]], Any]) -> dict[str, Any]:
    return {name: make(name, _mapping(name, spec)) for name, spec in _mapping(field, config[field]).items()}


def _numbers(field: str, values: Any) -> list[float]:
    if not isinstance(values, list) or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        raise ValueError(f"{field} must be a list of numbers, got {values!r}")
    return [float(value) for value in values]


def _mapping(field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{field} must be a mapping, got {value!r}")
    return value


def _needed(where: str, spec: dict[str, Any], key: str) -> Any:
    if key not in spec:
        raise ValueError(f"{where} must have the field {key}, got {', '.join(spec) or 'none'}")
    return spec[key]


def _known(where: str, spec: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in spec:
        if key not in known:
            raise ValueError(f"{where} must have fields of {', '.join(known)}, got {key!r}{_nearest(key, known)}")


def _nearest(word: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
