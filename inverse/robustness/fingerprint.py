"""A digest of what an object is made of, the same in every process: the key under which a result is kept."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def fingerprint(*parts: Any) -> str:
    """SHA-256 of tensors' values, modules' parameters and public attributes, functions' code, plain values.

    Private attributes, which hold what was computed from the public ones, and random generators do not count.
    Raises TypeError for an object that has neither values nor attributes.
    """
    digest = hashlib.sha256()
    _feed(digest, parts, ())
    return digest.hexdigest()


def _feed(digest: Any, value: Any, above: tuple[int, ...]) -> None:
    if id(value) in above:
        digest.update(b"above")
        return
    above = (*above, id(value))
    if (
        value is None
        or value is ...
        or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | torch.device)
    ):
        digest.update(f"{type(value).__name__}:{value!r};".encode())
    elif isinstance(value, Tensor | np.ndarray):
        array = torch.as_tensor(value).detach().cpu().resolve_conj().resolve_neg().contiguous()
        digest.update(f"tensor:{array.dtype}:{tuple(array.shape)};".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            _feed(digest, (str(key), value[key]), above)
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)}[".encode())
        for item in value:
            _feed(digest, item, above)
    elif isinstance(value, set | frozenset):
        _feed(digest, sorted(fingerprint(item) for item in value), above)
    elif isinstance(value, torch.Generator):
        digest.update(b"generator;")
    elif isinstance(value, types.FunctionType | types.MethodType | types.BuiltinFunctionType | type):
        _feed_function(digest, value, above)
    else:
        _feed_object(digest, value, above)


def _feed_function(digest: Any, value: Any, above: tuple[int, ...]) -> None:
    digest.update(f"{value.__module__}.{value.__qualname__};".encode())
    if isinstance(value, types.MethodType):
        _feed(digest, value.__self__, above)
        value = value.__func__
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        _feed(digest, (_code(value.__code__), value.__defaults__, value.__kwdefaults__, cells), above)


def _code(code: types.CodeType) -> tuple[Any, ...]:
    """What a function does, without where it is written; functions inside it included."""
    constants = [_code(constant) if isinstance(constant, types.CodeType) else constant for constant in code.co_consts]
    return code.co_code, constants, code.co_names


def _feed_object(digest: Any, value: Any, above: tuple[int, ...]) -> None:
    digest.update(f"{type(value).__module__}.{type(value).__qualname__};".encode())
    if dataclasses.is_dataclass(value):
        _feed(digest, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, above)
        return
    if isinstance(value, nn.Module):
        _feed(digest, dict(value.state_dict(keep_vars=True)), above)
        _feed(digest, dict(value.named_children()), above)
    if not hasattr(value, "__dict__"):
        raise TypeError(f"value must have attributes to be told from others, got {type(value).__name__}")
    cached = {name for kind in type(value).__mro__ for name, item in vars(kind).items() if _is_cached(item)}
    public = {name: item for name, item in vars(value).items() if not name.startswith("_") and name not in cached}
    _feed(digest, public, above)


def _is_cached(attribute: object) -> bool:
    return isinstance(attribute, functools.cached_property)
