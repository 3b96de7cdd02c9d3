"""What a sweep was run with, in words that tell a reader how to run it again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics, NoiseModel, Physics
from torch import Tensor, nn

from priors import MaximumEntropy
from priors.base import Prior

from .fingerprint import fingerprint
from .problem import Problem

# Tensors of more entries are told by shape and digest; objects inside objects, whose rest is not told, so deep.
FEW, DEPTH = 8, 4
TOLD = (Physics, NoiseModel, Prior)  # of the modules; others are networks
# What every deepinv physics has: functions, the solver of its pseudo-inverse; noise and shape, told beside it.
OF_PHYSICS = set(inspect.signature(LinearPhysics.__init__).parameters)
# What a MaximumEntropy prior goes by, with each of its methods.
USED = {"tempered": ("alpha", "method", "sigma_ref"), "cancelled": ("method", "pairs", "seed")}


def of_problem(problem: Problem | Callable[[int], Problem], seed: int) -> dict[str, str]:
    """Operator, noise, sizes and digest. seed: the one for which a problem that is a function of it is told."""
    digest = {"sha256": fingerprint(problem)[:12]}
    if isinstance(problem, Problem):
        return _of_problem(problem) | digest
    try:
        return _of_problem(problem(seed)) | digest | {"made": f"for each seed, here {seed}"}
    except Exception as failure:  # its cells will fail and say so
        return digest | {"made": f"for each seed, not for {seed}: {type(failure).__name__}: {failure}"}


def of_prior(prior: Prior) -> dict[str, str]:
    """Its class with what it is made of, networks by their number of weights and digest; and its own digest."""
    return {"prior": words(prior), "sha256": fingerprint(prior)[:12]}


def _of_problem(problem: Problem) -> dict[str, str]:
    shape = getattr(problem.physics, "img_size", None)
    return {
        "operator": _operator(problem.physics),
        "noise": words(problem.physics.noise_model),
        "image": _shape(shape) if shape else "",
        "measurements": f"{len(problem.y)} of shape {_shape(problem.y.shape[1:])}",
        "truth": "not known" if problem.truth is None else "known",
    }


def _operator(physics: Physics) -> str:
    """As `operators.create` was asked for it, or by class and arguments."""
    asked = getattr(physics, "_asked", None)
    if asked is None:
        return words(physics)
    return f"{asked['name']}({words(asked['options'] | {'seed': asked['seed']})})"


def words(value: Any, depth: int = DEPTH) -> str:
    """A value in words: few numbers as they are, tensors by shape and digest, objects by the arguments they keep."""
    if isinstance(value, Tensor | np.ndarray):
        return _tensor(torch.as_tensor(value))
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={words(item, depth)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return f"({', '.join(words(item, depth) for item in value)})"
    if isinstance(value, nn.Module) and not isinstance(value, TOLD):
        return _network(value)
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    kind = type(value)
    if kind.__repr__ not in (object.__repr__, nn.Module.__repr__):
        return str(value)
    return f"{kind.__name__}({words(_arguments(value), depth - 1) if depth else '...'})"


def _arguments(value: Any) -> dict[str, Any]:
    """Arguments of its class's constructor that an object keeps under their names; the name of a shipped prior."""
    if isinstance(value, MaximumEntropy):
        return {name: getattr(value, name) for name in (*USED[value.method], "prior")}
    hidden = OF_PHYSICS if isinstance(value, Physics) else {"rng", "device", "about"}
    name = getattr(value, "about", {}).get("name") if isinstance(value, Prior) else None
    kept = {key: getattr(value, key, None) for key in inspect.signature(type(value)).parameters if key not in hidden}
    return {key: item for key, item in {"name": name, **kept}.items() if item is not None}


def _tensor(value: Tensor) -> str:
    if value.numel() > FEW:
        return f"{_shape(value.shape)} sha256 {fingerprint(value)[:12]}"
    return _nested(value.tolist())


def _nested(values: Any) -> str:
    return f"[{', '.join(map(_nested, values))}]" if isinstance(values, list) else words(values)


def _network(network: nn.Module) -> str:
    weights = sum(weight.numel() for weight in network.parameters())
    return f"{type(network).__name__} with {weights:,} weights, sha256 {fingerprint(network)[:12]}"


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape)) or "1"
