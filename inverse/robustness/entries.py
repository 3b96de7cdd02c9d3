"""Entries of a config file: names are known, none is missing, values are of the kind wanted; else one sentence."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def make(where: str, make: Callable[..., T], /, *arguments: Any, **options: Any) -> T:
    """What is made; a value that is refused is told with the entry it is in."""
    try:
        return make(*arguments, **options)
    except (TypeError, ValueError, RuntimeError) as error:  # the last is torch's, for shapes that do not fit
        raise ValueError(f"{where}: {error}") from None


def arguments(
    where: str,
    given: dict[str, Any],
    kind: Callable[..., Any],
    hidden: Iterable[str] = (),
    needed: Iterable[str] = (),
    objects: Mapping[str, Callable[[Any], Any]] | None = None,
) -> dict[str, Any]:
    """The arguments of `kind`: none unknown, none missing, each of the kind that its annotation says.

    hidden: those that a file cannot have. needed: those it must have in spite of a default. objects: how those are made
    that are neither numbers nor text.
    """
    taken = {key: known for key, known in inspect.signature(kind).parameters.items() if key not in hidden}
    check_known(where, given, taken)
    for key, parameter in taken.items():
        required = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
        if required or key in needed:
            present(where, given, key)
    make = objects or {}
    return {
        key: make[key](value) if key in make else checked(where, key, value, str(taken[key].annotation))
        for key, value in given.items()
    }


def checked(where: str, key: str, value: Any, annotation: str) -> Any:
    """The value, if it is of the kind that an annotation such as "float | None" says."""
    kinds = [kind.split("[")[0] for kind in annotation.split(" | ")]
    if value is None and "None" in kinds:
        return value
    wanted = [VALUES[kind] for kind in kinds if kind in VALUES]
    if not wanted:
        raise ValueError(f"{where} must leave {key} to a sweep written in Python, got {value!r} in a file")
    if not any(fits(value) for fits, _ in wanted):
        raise ValueError(f"{where} must have as {key} {' or '.join(words for _, words in wanted)}, got {value!r}")
    return value


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_array(value: Any) -> bool:
    """A list of numbers, or of such lists of one length."""
    try:
        return isinstance(value, list) and torch.tensor(value).ndim > 0
    except (TypeError, ValueError, RuntimeError):
        return False


VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "int": (is_whole, "a whole number"),
    "float": (_is_number, "a number"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "str": (lambda value: isinstance(value, str), "text"),
    "Sequence": (_is_array, "a list of numbers"),
}


def tensor(where: str, key: str, value: Any, dtype: torch.dtype | None = None) -> Tensor:
    return torch.tensor(checked(where, key, value, "Sequence"), dtype=dtype)


def choice(where: str, spec: dict[str, Any], kinds: Mapping[str, T]) -> tuple[T, dict[str, Any]]:
    chosen = present(where, spec, "name")
    if not isinstance(chosen, str) or chosen not in kinds:
        raise ValueError(f"{where} must be one of {', '.join(kinds)}, got {chosen!r}{nearest(chosen, kinds)}")
    return kinds[chosen], {key: value for key, value in spec.items() if key != "name"}


def mapping(field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{field} must be a mapping, got {value!r}")
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"{field} must have text as keys, got {key!r}; put it in quotes")
    return value


def present(where: str, spec: Mapping[str, Any], key: str) -> Any:
    if key not in spec:
        raise ValueError(f"{where} must have the field {key}, got {', '.join(spec) or 'none'}")
    return spec[key]


def check_known(where: str, spec: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in spec:
        if key not in known:
            raise ValueError(f"{where} must have fields of {', '.join(known)}, got {key!r}{nearest(key, known)}")


def nearest(word: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
