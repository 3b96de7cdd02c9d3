"""Errors of a prior as they happen in practice: noisy or rounded weights, too few images, training that ended early.

Amplitude 1 is the real thing (for `WeightNoise`: noise as large as the weights); other amplitudes scale the change
that it makes, of the weights or of the score, so that a sweep can find where a reconstruction breaks.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

import priors
from inverse.checks import whole
from priors import Empirical, MaximumEntropy
from priors import checkpoint as training_checkpoint
from priors.base import Prior, Sigma
from priors.training import CHECKPOINT

from .base import PriorError
from .fingerprint import fingerprint

FORMATS = ("int8", "bf16")
INT8_LIMIT = 127  # the largest code, the same on both sides of zero


class Mixed(Prior):
    """The score s + amplitude (s_other - s) of two priors; all else is the first one's.

    displacement = d + amplitude (d_other - d). One score takes the denoiser calls of both (`evaluations`), but at
    amplitude 0 or 1 those of one alone, since the other has no part in it.

    prior: whose image_shape, sigma_range, stiffness, radius and draws are kept. other: of the same image_shape.
    amplitude: finite, at least 0; above 1 it extrapolates.
    Raises TypeError unless both are priors whose score is their denoiser's, which that of a MaximumEntropy prior is
    not (wrap the mixture instead: `inject`); ValueError for different image shapes.
    """

    def __init__(self, prior: Prior, other: Prior, amplitude: float) -> None:
        super().__init__()
        for name, value in (("prior", prior), ("other", other)):
            _check_prior(name, value)
            if any(isinstance(module, MaximumEntropy) for module in value.modules()):
                raise TypeError(f"{name} must have the score of its denoiser to be mixed, got a MaximumEntropy prior")
        if None not in (prior.image_shape, other.image_shape) and prior.image_shape != other.image_shape:
            raise ValueError(f"other must be of image shape {prior.image_shape} as prior is, got {other.image_shape}")
        self.prior, self.other = prior, other
        self.amplitude = PriorError(amplitude).amplitude
        self.image_shape, self.sigma_range = prior.image_shape, prior.sigma_range
        self.evaluations = sum(part.evaluations for part, weight in self._parts() if weight)

    def _parts(self) -> tuple[tuple[Prior, float], tuple[Prior, float]]:
        return (self.prior, 1 - self.amplitude), (self.other, self.amplitude)

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        """d + amplitude (d_other - d), like x (B, *image_shape)."""
        first, *second = (part.displacement(x, sigma) for part, weight in self._parts() if weight)
        return torch.lerp(first, second[0], self.amplitude) if second else first

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D + amplitude (D_other - D), like x (B, *image_shape)."""
        return x + self.displacement(x, sigma)

    def stiffness(self, sigma: float) -> float:
        """That of the first prior."""
        return self.prior.stiffness(sigma)

    def radius(self, image_shape: tuple[int, ...]) -> float:
        """That of the first prior."""
        return self.prior.radius(image_shape)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Draws of the first prior, whose law the error does not change."""
        return self.prior.sample(n, seed)


class _Practical(PriorError):
    """An error that describes its options in plain values."""

    def describe(self) -> dict[str, Any]:
        """Class name and options as plain JSON values; tensors and priors by shape or class and a content hash."""
        return {"error": type(self).__name__, **{name: _plain(value) for name, value in vars(self).items()}}


class _WeightError(_Practical):
    """An error of a network's weights: w becomes w + amplitude change(name, w); a subclass writes `change`."""

    def change(self, name: str, weight: Tensor) -> Tensor:
        """What amplitude 1 adds to the weight tensor of that name, like it."""
        raise NotImplementedError

    def perturb(self, prior: Prior) -> Prior:
        """A copy of the prior with other weights; its modes, requires_grad flags and memory formats are kept.

        Raises TypeError unless given a Prior, ValueError for one without weights, such as `Empirical`.
        """
        _check_prior("prior", prior)
        if not any(weight.is_floating_point() for weight in prior.parameters()):
            raise ValueError(
                f"prior must have a network's weights for {type(self).__name__}, got {type(prior).__name__} without any"
            )
        if any(getattr(module, "inference", None) == "int8" for module in prior.modules()):
            raise ValueError(
                f"prior must be in float32 for {type(self).__name__}, as priors.load gives it, got one in int8, "
                "whose rounding would add to the error"
            )
        return _reweighted(prior, lambda name, weight: self.amplitude * self.change(name, weight))


@dataclass(frozen=True)
class WeightNoise(_WeightError):
    """Every weight tensor w becomes w + amplitude rms(w) z, z standard normal, rms(w) = sqrt(mean(w^2)).

    That holds for every parameter alike, biases and the scales of normalisation layers included, each relative to its
    own rms; a tensor of zeros stays as it is. Buffers (running statistics, data) are left alone.

    amplitude: relative size of the noise; 0.01 is one per cent. seed: of z, which for each tensor is drawn on the
    CPU from the seed and the tensor's name in the prior, so that it depends neither on the others nor on the device.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("seed", self.seed, least=None)

    @classmethod
    def in_words(cls, settings: Mapping[str, Any]) -> tuple[str, str]:
        return "the weights are off by", " of the weights' rms"

    def change(self, name: str, weight: Tensor) -> Tensor:
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
        return weight.square().mean().sqrt() * torch.randn(weight.shape, generator=generator).to(weight)


@dataclass(frozen=True)
class Quantised(_WeightError):
    """Weights rounded as for cheap inference: w becomes w + amplitude (q(w) - w).

    int8: q(w) = step round(w / step), step = max|w| / 127, symmetric, with one step for each entry of the first axis
        (per output channel of linear and convolution layers, per input channel of transposed convolutions). Tensors
        of one axis (biases, normalisation) stay exact, as they do in int8 inference. |q(w) - w| <= step / 2.
    bf16: every parameter is rounded to bfloat16, 8 significant bits: |q(w) - w| <= 2^-8 |w|.
    Only the weights are rounded: activations and arithmetic keep the dtype of the network.

    amplitude: 1 is the rounded network. format: "int8" or "bf16".
    """

    format: str = "int8"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")

    @classmethod
    def in_words(cls, settings: Mapping[str, Any]) -> tuple[str, str]:
        return "the error is", f" times that of weights rounded to {settings.get('format', 'fewer bits')}"

    def change(self, name: str, weight: Tensor) -> Tensor:
        if self.format == "bf16":
            return weight.bfloat16().to(weight.dtype) - weight
        if weight.ndim < 2:
            return torch.zeros_like(weight)
        largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
        step = (largest / INT8_LIMIT).clamp_min(torch.finfo(weight.dtype).tiny)
        return step * (weight / step).round() - weight


@dataclass(frozen=True, eq=False)
class FewData(_Practical):
    """A prior that knows n of the N training images: score = s + amplitude (s_few - s), s that of the given prior.

    s_few is the exact score of n images drawn without replacement (`priors.Empirical`); s normally that of all N.
    The images for one n are among those for a larger one with the same seed. Two such errors are equal if identical.

    amplitude: 1 is the prior of n images. images: n, from 1 to N. data: (N, *image_shape), floating point, in the
    units of the prior; bandwidth: of the kernel, in those units; None takes either from the given prior, which then
    has to be Empirical. seed: of the choice of images.
    """

    images: int = 100
    data: Tensor | None = field(default=None, repr=False)
    bandwidth: float | None = None
    seed: int = 0

    # The equality of the base class would compare amplitudes alone, and tensors have no single truth value.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("seed", self.seed, least=None)
        whole("images", self.images)
        if self.data is not None:
            _check_data(self.data)
            self._check_count(self.data)
        if self.bandwidth is not None and not (math.isfinite(self.bandwidth) and self.bandwidth >= 0):
            raise ValueError(f"bandwidth must be finite and at least 0, got {self.bandwidth}")

    def _check_count(self, data: Tensor) -> None:
        if self.images > len(data):
            raise ValueError(f"images must be at most the {len(data)} images of the data, got {self.images}")

    def _source(self, prior: Prior) -> tuple[Tensor, float]:
        """Data and bandwidth, those of the prior where none were given."""
        if isinstance(prior, Empirical):
            return (
                prior.means if self.data is None else self.data,
                prior.bandwidth if self.bandwidth is None else self.bandwidth,
            )
        if self.data is None or self.bandwidth is None:
            raise ValueError(
                f"data and bandwidth must be given unless the prior is Empirical, got a {type(prior).__name__}"
            )
        return self.data, self.bandwidth

    @classmethod
    def in_words(cls, settings: Mapping[str, Any]) -> tuple[str, str]:
        return "the error is", f" times that of a prior of {settings.get('images', 'few')} images"

    def perturb(self, prior: Prior) -> Mixed:
        """The mixture of the prior with that of the few images, on the prior's device.

        Raises ValueError for data of another image shape, and where data or bandwidth are missing.
        """
        _check_prior("prior", prior)
        data, bandwidth = self._source(prior)
        self._check_count(data)
        if prior.image_shape is not None and tuple(data.shape[1:]) != prior.image_shape:
            raise ValueError(f"data must have shape (N, {_listed(prior.image_shape)}), got {tuple(data.shape)}")
        chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(self.seed))[: self.images]
        return Mixed(prior, Empirical(data[chosen.to(data.device)].to(_device(prior)), bandwidth), self.amplitude)


@dataclass(frozen=True)
class EarlyStopped(_Practical):
    """A prior whose training ended too early: score = s + amplitude (s_early - s).

    amplitude: 1 is the early prior. early: that prior, or what to read it from: the name of a shipped prior or a
    weights file (as `priors.load` takes), a training run's checkpoint, of which the averaged weights are used, or the
    folder of such a run. It is read at once, to the CPU; the field then holds the prior.
    Raises TypeError for anything else, and for files what `priors.load` does.
    """

    early: Prior | str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.early, str | Path):
            # The prior and not its path, so that the error stays the same when the run that wrote the file goes on.
            object.__setattr__(self, "early", _read(self.early))
        if not isinstance(self.early, Prior):
            raise TypeError(f"early must be a Prior, or a name or path to load one, got {type(self.early).__name__}")

    @classmethod
    def in_words(cls, settings: Mapping[str, Any]) -> tuple[str, str]:
        return "the error is", " times that of the early prior"

    def perturb(self, prior: Prior) -> Mixed:
        """The mixture of the prior with the early one, of which a copy is made if it is on another device."""
        _check_prior("prior", prior)
        early, device = cast(Prior, self.early), _device(prior)
        if _device(early) != device:
            early = copy.deepcopy(early).to(device)
        return Mixed(prior, early, self.amplitude)


def _reweighted(prior: Prior, change: Callable[[str, Tensor], Tensor]) -> Prior:
    """A copy of the prior whose weights have changed; it shares the data of priors, such as an Empirical one's."""
    # What the memo holds is not copied again: data stay where they are, and each weight is copied once.
    memo: dict[int, Any] = {
        id(data): data
        for module in prior.modules()
        if isinstance(module, Prior)
        for data in module.buffers(recurse=False)
    }
    for name, parameter in prior.named_parameters():
        if parameter.is_floating_point():
            weight = parameter.detach()
            # A clone keeps the memory format, whichever that of the change is.
            changed = weight.clone().add_(change(name, weight))
            memo[id(parameter)] = nn.Parameter(changed, requires_grad=parameter.requires_grad)
    return copy.deepcopy(prior, memo)


def _read(source: str | Path) -> Prior:
    path = Path(source)
    path = path / CHECKPOINT if path.is_dir() else path
    if path.is_file() and _format(path) == training_checkpoint.FORMAT:
        prior, _ = training_checkpoint.averaged_prior(path)
        return prior.requires_grad_(False)
    return priors.load(path)


def _format(path: Path) -> str | None:
    """What the header of a safetensors file says; None for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format")
    except SafetensorError:
        return None


def _device(prior: Prior) -> torch.device:
    tensor = next(chain(prior.parameters(), prior.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _check_prior(name: str, value: object) -> None:
    if not isinstance(value, Prior):
        raise TypeError(f"{name} must be a Prior, got {type(value).__name__}")


def _check_data(data: object) -> None:
    if not isinstance(data, Tensor) or not data.is_floating_point() or data.ndim < 2:
        came = f"{data.dtype} of shape {tuple(data.shape)}" if isinstance(data, Tensor) else type(data).__name__
        raise TypeError(f"data must be a floating-point tensor (N, *image_shape), got {came}")


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _plain(value: Any) -> Any:
    """An option as a JSON value."""
    if isinstance(value, Tensor):
        return {"shape": list(value.shape), "sha256": fingerprint(value)[:12]}
    if isinstance(value, Prior):
        return {"prior": type(value).__name__, "sha256": fingerprint(value)[:12]}
    return value
