"""A sweep as a YAML file: every object by its name and its options, nothing that is executed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import yaml
from torch import Tensor

import inverse
import operators
import priors
from inverse import images
from inverse.driver import Sampler
from inverse.posterior import Posterior
from priors import manifolds
from priors.base import Prior

from . import entries, errors, practical
from .base import PriorError, inject
from .grid import real_numbers, whole_numbers
from .problem import Problem
from .tuning import Tuned

T = TypeVar("T")
FIELDS = ("problems", "priors", "samplers", "errors", "amplitudes", "sigmas", "seeds", "n")
PROBLEM = ("operator", "options", "noise", "seed", "image_shape", "y", "images")
# What a prior is made of, and what else can be said of such a one.
PRIOR: dict[str, tuple[str, ...]] = {
    "load": (),
    "images": ("bandwidth",),
    "manifold": ("von_mises_fisher",),
    "of": ("alpha", "method", "sigma_ref", "pairs"),
}
TUNED = ("tuned", "each_error", "seeds")
MANIFOLDS: dict[str, type[manifolds.Submanifold]] = {
    name: kind
    for name, kind in vars(manifolds).items()
    if isinstance(kind, type) and issubclass(kind, manifolds.Submanifold) and kind is not manifolds.Submanifold
}
ERRORS: dict[str, type[PriorError]] = {
    kind.__name__: kind
    for kind in (
        errors.GradientError,
        errors.SolenoidalError,
        errors.BiasError,
        errors.TangentialError,
        errors.NormalError,
        errors.DensityError,
        practical.WeightNoise,
        practical.Quantised,
        practical.FewData,
        practical.EarlyStopped,
    )
}


class Loader(yaml.SafeLoader):
    """YAML 1.1 that refuses a key which is there twice, instead of taking the last, and reads 1e-3 as a number."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for i, key in enumerate(keys):
            if key.value in [other.value for other in keys[:i]]:
                line = key.start_mark.line + 1
                raise ValueError(f"config must have each key once, got {key.value!r} again in line {line}")
        return node


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class File(NamedTuple):
    """The folder of the file, which paths in it are relative to, and its priors, which other entries refer to."""

    folder: Path
    priors: dict[str, Prior]

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """That of the first prior which has one."""
        return next((prior.image_shape for prior in self.priors.values() if prior.image_shape is not None), None)


def read(path: str | Path) -> dict[str, Any]:
    """The arguments of `inverse.robustness.sweep` that a YAML file describes; see `inverse sweep --help`.

    Raises ValueError for what is no such description: an unknown field is named with the nearest known one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"config must be a YAML file, and there is none at {path}")
    try:
        config = yaml.load(path.read_text(), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config must be YAML, got {path}: {' '.join(str(error).split())}") from None
    config = entries.mapping("config", config)
    entries.check_known("config", config, FIELDS)
    for name in FIELDS:
        if name not in ("seeds", "n"):
            if entries.present("config", config, name) in ({}, []):
                raise ValueError(f"{name} must not be empty, got a grid without cells")
    file = File(path.parent, {})
    for name, spec in entries.mapping("priors", config["priors"]).items():
        file.priors[name] = _prior(name, entries.mapping(name, spec), file)
    made = {
        "problems": _each("problems", config, file, _problem),
        "priors": file.priors,
        "samplers": _each("samplers", config, file, _sampler),
        "errors": _each("errors", config, file, _error),
        "amplitudes": list(real_numbers("amplitudes", config["amplitudes"])),
        "sigmas": list(real_numbers("sigmas", config["sigmas"])),
        "seeds": _seeds(config.get("seeds", 3)),
    }
    return made | ({"n": config["n"]} if "n" in config else {})


def _seeds(value: Any) -> list[int]:
    """So many, from 0 on, or those of a list."""
    if isinstance(value, list):
        return list(whole_numbers("seeds", value))
    if not entries.is_whole(value) or value < 1:
        raise ValueError(f"seeds must be a whole number above 0, or a list of whole numbers, got {value!r}")
    return list(range(value))


def _problem(name: str, spec: dict[str, Any], file: File) -> Problem:
    """{operator, options, noise, seed} and {y} or {images}: paths of pictures."""
    entries.check_known(name, spec, PROBLEM)
    shape = spec.get("image_shape", file.image_shape or ())
    given = entries.mapping(f"options of {name}", spec.get("options", {}))
    options = {
        key: entries.tensor(name, key, value) if isinstance(value, list) else value for key, value in given.items()
    }
    operator, noise = entries.present(name, spec, "operator"), entries.present(name, spec, "noise")
    physics = entries.make(name, operators.create, operator, shape, noise=noise, seed=spec.get("seed", 0), **options)
    if ("y" in spec) == ("images" in spec):
        raise ValueError(f"{name} must have either y or images, got {'both' if 'y' in spec else 'neither'}")
    if "y" in spec:
        problem = Problem(physics, entries.tensor(name, "y", spec["y"], torch.get_default_dtype()))
    else:
        truth = _images(name, "images", spec["images"], tuple(shape), file)
        with torch.no_grad():
            problem = Problem(physics, physics(truth), truth)
    _check_fit(name, lambda prior: Posterior(prior, physics, problem.y), file)
    return problem


def _prior(name: str, spec: dict[str, Any], file: File) -> Prior:
    """{load} by name or path; the {images, bandwidth} of a data set; {manifold, von_mises_fisher}; or {of} another
    with alpha, made geometric."""
    entries.check_known(name, spec, [field for kind, more in PRIOR.items() for field in (kind, *more)])
    given = [kind for kind in PRIOR if kind in spec]
    if len(given) != 1:
        raise ValueError(f"{name} must have one of {', '.join(PRIOR)}, got {', '.join(given) or 'none'}")
    kind = given[0]
    entries.check_known(name, spec, (kind, *PRIOR[kind]))
    makers = {"load": _loaded, "images": _empirical, "manifold": _on_manifold, "of": _geometric}
    return makers[kind](name, spec, file)


def _loaded(name: str, spec: dict[str, Any], file: File) -> Prior:
    return entries.make(name, priors.load, _path(name, "load", spec["load"], file))


def _empirical(name: str, spec: dict[str, Any], file: File) -> Prior:
    data = _images(name, "images", spec["images"], None, file)
    bandwidth = entries.checked(name, "bandwidth", entries.present(name, spec, "bandwidth"), "float")
    return entries.make(name, priors.Empirical, data, bandwidth)


def _on_manifold(name: str, spec: dict[str, Any], file: File) -> Prior:
    """manifold: a name, or {name, then its arguments}."""
    manifold = spec["manifold"] if isinstance(spec["manifold"], dict) else {"name": spec["manifold"]}
    kind, options = entries.choice(name, manifold, MANIFOLDS)
    return _with_density(
        name, entries.make(name, kind, **entries.arguments(f"manifold of {name}", options, kind)), spec
    )


def _with_density(name: str, manifold: manifolds.Submanifold, spec: dict[str, Any]) -> priors.Manifold:
    """von_mises_fisher: {direction, kappa}; uniform where there is none."""
    if "von_mises_fisher" not in spec:
        return entries.make(name, priors.Manifold, manifold)
    where = f"von_mises_fisher of {name}"
    options = entries.arguments(where, entries.mapping(where, spec["von_mises_fisher"]), manifolds.VonMisesFisher)
    return entries.make(name, priors.Manifold, manifold, entries.make(where, manifolds.VonMisesFisher, **options))


def _geometric(name: str, spec: dict[str, Any], file: File) -> Prior:
    of, known = spec["of"], file.priors
    if not isinstance(of, str) or of not in known:
        raise ValueError(f"{name} must be of a prior above it, got {of!r}{entries.nearest(of, known)}")
    given = {key: value for key, value in spec.items() if key != "of"}
    return entries.make(
        name, priors.MaximumEntropy, known[of], **entries.arguments(name, given, priors.MaximumEntropy, ("prior",))
    )


def _sampler(name: str, spec: dict[str, Any], file: File) -> Sampler | Tuned:
    """{name, then its hyper-parameters}; tuned: lists of values to try, with each_error and seeds as of `Tuned`."""
    kind = entries.checked(name, "name", entries.present(name, spec, "name"), "str")
    own = ("name", *TUNED) if "tuned" in spec else ("name",)
    hyper = {key: value for key, value in spec.items() if key not in own}
    for key, value in hyper.items():
        if isinstance(value, list | dict):
            raise ValueError(f"{name} must have one value for {key}, got {value!r}; those to try belong under tuned")
    sampler = entries.make(name, inverse.sampler, kind, **hyper)
    return _tuned(name, spec, sampler) if "tuned" in spec else sampler


def _tuned(name: str, spec: dict[str, Any], sampler: Sampler) -> Tuned:
    where = f"tuned of {name}"
    options = entries.mapping(where, spec["tuned"])
    entries.check_known(where, options, [field.name for field in dataclasses.fields(sampler)])
    for key, values in options.items():
        if not isinstance(values, list) or any(isinstance(value, list | dict) for value in values):
            raise ValueError(f"{where} must have a list of values for {key}, got {values!r}")
    each_error = entries.checked(name, "each_error", spec.get("each_error", False), "bool")
    seeds = whole_numbers(f"seeds of {name}", spec.get("seeds", Tuned.seeds))
    return entries.make(name, Tuned, sampler, options, each_error, seeds)


def _error(name: str, spec: dict[str, Any], file: File) -> PriorError:
    """{name, then its options}.

    manifold: the name of a prior above, whose manifold is meant. target: of another, whose density is meant, or a
    density as priors have it. data: paths of pictures. early: a name or a path.
    """
    kind, given = entries.choice(name, spec, ERRORS)
    objects = {
        "manifold": lambda value: _law(name, "manifold", value, file),
        "target": lambda value: _target(name, value, _law(name, "manifold", given["manifold"], file), file),
        "data": lambda value: _images(name, "data", value, file.image_shape, file),
        "early": lambda value: _path(name, "early", value, file),
    }
    # The amplitude is the sweep's; the density that a DensityError turns into another one comes with the manifold.
    hidden, needed = ("amplitude", "log_density"), ("manifold", "early")
    error = entries.make(name, kind, **entries.arguments(name, given, kind, hidden, needed, objects))
    _check_fit(name, lambda prior: inject(error, prior), file)
    return error


def _law(name: str, key: str, value: Any, file: File) -> priors.Manifold:
    known = {other: law for other, law in file.priors.items() if isinstance(law, priors.Manifold)}
    if not isinstance(value, str) or value not in known:
        names = ", ".join(known) or "none"
        raise ValueError(
            f"{name} must have as {key} a prior on a manifold ({names}), got {value!r}{entries.nearest(value, known)}"
        )
    return known[value]


def _target(name: str, value: Any, on: priors.Manifold, file: File) -> priors.Manifold | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        return _law(name, "target", value, file)
    where = f"target of {name}"
    density = entries.mapping(where, value)
    entries.check_known(where, density, ("von_mises_fisher",))
    entries.present(where, density, "von_mises_fisher")
    return _with_density(where, on.manifold, density)


def _check_fit(name: str, put_to: Callable[[Prior], Any], file: File) -> None:
    """Refuse what fits none of the priors; where it fits one, the cells of the others tell why they failed."""
    reasons = []
    for prior in file.priors.values():
        try:
            put_to(prior)
            return
        except (TypeError, ValueError) as reason:
            reasons.append(reason)
    if reasons:
        raise ValueError(f"{name}: {reasons[0]}")


def _path(where: str, key: str, value: Any, file: File) -> Path | str:
    """The name of a prior, or the path of a file."""
    name = entries.checked(where, key, value, "str")
    return name if name in priors.available() or not (file.folder / name).exists() else file.folder / name


def _images(where: str, key: str, paths: Any, shape: tuple[int, ...] | None, file: File) -> Tensor:
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise ValueError(f"{where} must have as {key} a list of files, got {paths!r}")
    return entries.make(where, images.load, [file.folder / path for path in paths], shape).x


def _each(
    field: str, config: dict[str, Any], file: File, make: Callable[[str, dict[str, Any], File], T]
) -> dict[str, T]:
    return {
        name: make(name, entries.mapping(name, spec), file)
        for name, spec in entries.mapping(field, config[field]).items()
    }
