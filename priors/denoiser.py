"""Any denoiser as a prior, and the weights of one from a file."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from .axpy import axpy, axpy_
from .base import Prior, Sigma, check_derivative, sigma_per_item
from .store import read_safetensors


class Denoiser(Prior):
    """The prior whose score is (denoiser(x, sigma) - x) / sigma^2 (Tweedie).

    denoiser: any deepinv denoiser, or any module called as denoiser(x, sigma) with sigma the noise's standard
    deviation in units of x; it is used as it is (weights, mode and gradients flags are not touched). What deepinv's
    TVDenoiser, TGVDenoiser and WaveletDenoiser are given as sigma is their threshold; `TotalVariation` and `Wavelet`
    choose it from sigma.
    image_shape: None where the denoiser takes any size. sigma_range: the levels it was trained for.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        image_shape: tuple[int, ...] | None = None,
        sigma_range: tuple[float, float] = (0.0, math.inf),
    ) -> None:
        super().__init__()
        if not callable(denoiser):
            raise TypeError(f"denoiser must be callable as denoiser(x, sigma), got {type(denoiser).__name__}")
        self.denoiser = denoiser
        # Reconstructors that denoise too, such as RAM, are called as denoiser(y, physics, sigma=...).
        self._by_name = isinstance(denoiser, _models().Reconstructor)
        # TVDenoiser goes on from its last result, and GSDRUNet cuts off derivatives and asks for those of the very
        # tensor it is given, unless they are told not to.
        modules = list(denoiser.modules()) if isinstance(denoiser, nn.Module) else []
        self._warm: list[Any] = [module for module in modules if hasattr(module, "restart")]
        self._cut: list[Any] = [module for module in modules if hasattr(module, "detach")]
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self.sigma_range = tuple(sigma_range)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        denoiser: str | nn.Module,
        image_shape: tuple[int, ...] | None = None,
        sigma_range: tuple[float, float] = (0.0, math.inf),
        **options: Any,
    ) -> Denoiser:
        """The prior of a deepinv denoiser with its weights in a safetensors file, on the CPU, ready to sample from.

        denoiser: its name in deepinv.models, such as "DRUNet", built with `options`, the arguments of its class, such
        as in_channels=1; or one that is built already, with pretrained=None, and is given these weights, which ask for
        no gradients. image_shape, sigma_range: as above.
        Raises FileNotFoundError where there is no file; ValueError, in one sentence, for a pickle, with the way to
        convert it, for weights of another architecture, and for an unknown name or option.
        """
        if isinstance(denoiser, nn.Module) and options:
            raise ValueError(f"options must be left out with a denoiser that is built, got {', '.join(options)}")
        network = denoiser if isinstance(denoiser, nn.Module) else build(denoiser, options)
        fill(network, Path(path), denoiser if isinstance(denoiser, str) else type(denoiser).__name__, options)
        return cls(network, image_shape, sigma_range).requires_grad_(False).eval()

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """denoiser(x, sigma). x: (B, *image_shape); sigma: float, (B,) or (B, 1, ..., 1).

        Raises ValueError where derivatives are asked for and the denoiser has none, as deepinv's BM3D.
        """
        self.check_shape(x)
        for module in self._warm:
            module.restart = True
        image, level = x, sigma_per_item(sigma, x)
        if self._cut:
            for module in self._cut:
                module.detach = not (torch.is_grad_enabled() and x.requires_grad)
            image = x.view_as(x)
        denoised = self.denoiser(image, sigma=level) if self._by_name else self.denoiser(image, level)
        check_derivative(denoised, x, type(self.denoiser).__name__)
        return denoised

    def ascend(
        self, x: Tensor, sigma: float, step: float | Tensor, noise: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """x + step score(x, sigma), which lies between x and the denoised image, and that image."""
        denoised = self.denoise(x, sigma)
        share = step / sigma**2
        return axpy_(share, denoised, axpy(-share, x, x)), denoised


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """The denoiser of deepinv.models of that name, its weights at random; leaves the global random state alone.

    Raises ValueError for an unknown name or option, and for the option pretrained.
    """
    known = names()
    if name not in known:
        nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
        raise ValueError(f"denoiser must be the name of a denoiser of deepinv, got {name!r}; did you mean {nearest!r}?")
    kind = getattr(_models(), name)
    taken = inspect.signature(kind).parameters
    unknown = [option for option in options if option not in taken or option == "pretrained"]
    if unknown:
        possible = ", ".join(option for option in taken if option not in ("pretrained", "kwargs", "args"))
        raise ValueError(f"options of {name} must be of {possible}, got {', '.join(unknown)}")
    without = {"pretrained": None} if "pretrained" in taken else {}
    with torch.random.fork_rng(devices=[]):
        return kind(**options, **without)


def _models() -> ModuleType:
    """deepinv.models, which trainings do without: they load this package with torch, numpy and safetensors alone."""
    from deepinv import models

    return models


def names() -> list[str]:
    """Names of deepinv's denoisers."""
    models = _models()
    kinds = {name: kind for name, kind in vars(models).items() if inspect.isclass(kind)}
    others = (models.Denoiser, models.Client)  # the interface, and one that asks a server
    found = [name for name, kind in kinds.items() if issubclass(kind, models.Denoiser) and kind not in others]
    return sorted([*found, "GSDRUNet"])  # a function that makes one


def fill(network: nn.Module, path: Path, name: str, options: Mapping[str, Any]) -> None:
    """Give the network the weights in a safetensors file. name, options: what it was built with, for the errors."""
    if not path.is_file():
        raise FileNotFoundError(f"path must be a file with the weights of {name}, and there is no file {str(path)!r}")
    arguments = ", ".join(f"{key}={value!r}" for key, value in {**options, "pretrained": str(path)}.items())
    conversion = (
        "; where you trust its source, convert it once by "
        f"safetensors.torch.save_model(deepinv.models.{name}({arguments}), {path.stem + '.safetensors'!r})"
    )
    _, tensors = read_safetensors(path, f"weights of {name}", conversion)
    differences = _differences(network.state_dict(), tensors)
    if differences:
        raise ValueError(f"{path} must hold the weights of this {name}, and does not: {'; '.join(differences)}")
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ValueError(f"{path} must hold finite weights, got some that are not")
    network.load_state_dict(tensors, strict=False)


def _differences(needed: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """What a file lacks, has beyond, and has in another shape; empty where it fits."""
    # Weights under several names are in a file once.
    shared = {needed[key].data_ptr() for key in tensors if key in needed}
    missing = [key for key in needed if key not in tensors and needed[key].data_ptr() not in shared]
    surplus = [key for key in tensors if key not in needed]
    other = [key for key in tensors if key in needed and tensors[key].shape != needed[key].shape]
    said = []
    if missing:
        said.append(f"it lacks {len(missing)} of {len(needed)} tensors, such as {missing[0]!r}")
    if surplus:
        said.append(f"{len(surplus)} of its tensors are of another network, such as {surplus[0]!r}")
    if other:
        came, want = tuple(tensors[other[0]].shape), tuple(needed[other[0]].shape)
        said.append(f"{len(other)} have another shape, such as {other[0]!r} with {came} in place of {want}")
    return said
