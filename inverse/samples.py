"""What a sampler returns: posterior samples with what it took to draw them, in an open file format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from .files import replacing

Value = str | int | float | bool | None | list[float]

FORMAT = "scorefold-samples-1"
SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class Samples:
    """n posterior samples for each of B measurements.

    x: (n, B, *image_shape), sample axis first.
    nfe: denoiser calls per chain. seconds: wall-clock time of the whole run.
    sampler, hyper, seed: name, hyper-parameters as they were used (none left to be chosen) and seed: what it takes to
    draw the same samples again, beside whether they are antithetic.
    y: the measurements, (B, *measurement_shape), or None where there were none.
    info: what else to report with the numbers: versions, prior, physics, noise level in units of the measurement,
    whether samples i and i + n/2 are antithetic, and to be kept together.
    """

    x: Tensor
    nfe: int
    seconds: float
    sampler: str
    hyper: Mapping[str, Value]
    seed: int
    y: Tensor | None = None
    info: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.x.ndim < 3 or 0 in self.x.shape:
            raise ValueError(f"x must be (n, B, *image_shape) with nothing empty, got shape {tuple(self.x.shape)}")
        if self.y is not None and len(self.y) != self.x.shape[1]:
            raise ValueError(f"y must hold one measurement for each of {self.x.shape[1]}, got {len(self.y)}")
        try:
            json.dumps(self._record())
        except TypeError as error:
            raise TypeError(f"hyper and info must hold only numbers, strings, lists, None, got {error}") from error

    def __repr__(self) -> str:
        n, batch, *shape = self.x.shape
        return (
            f"Samples(n={n}, measurements={batch}, image_shape={tuple(shape)}, sampler={self.sampler!r}, "
            f"nfe={self.nfe}, seconds={self.seconds:.1f})"
        )

    @property
    def mean(self) -> Tensor:
        """Posterior mean, (B, *image_shape)."""
        return self.x.mean(0)

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation of each pixel (unbiased variance), (B, *image_shape).

        Of antithetic samples, pairs a and b: Var = E (a - b)^2 / 4 + Var (a + b) / 2.
        Raises ValueError for a single sample.
        """
        if len(self.x) < 2:
            raise ValueError("std needs at least 2 samples per measurement, got 1")
        if not self.info.get("antithetic"):
            return self.x.std(0)
        a, b = self.x.chunk(2)
        return (((a - b) / 2).square().mean(0) + ((a + b) / 2).var(0)).sqrt()

    def quantile(self, q: float | Sequence[float]) -> Tensor:
        """Quantiles of each pixel, linear between order statistics: (B, *image_shape), or (len(q), B, *image_shape).

        These are quantiles of the drawn samples, which are narrower than those of the law they come from: for
        calibrated intervals from few samples use `inverse.metrics.coverage`. Raises ValueError unless 0 <= q <= 1.
        """
        levels = torch.as_tensor(q, dtype=torch.float64)
        if levels.ndim > 1 or not bool(((levels >= 0) & (levels <= 1)).all()):
            raise ValueError(f"q must be one number or a list of numbers in [0, 1], got {q}")
        # torch.quantile refuses tensors of more than 16 million values, which a few large images reach
        ordered = self.x.sort(dim=0).values
        position = levels * (len(self.x) - 1)
        below = position.floor().long()
        above = position.ceil().long()
        weight = (position - below).to(self.x).reshape(*levels.shape, *[1] * (self.x.ndim - 1))
        return torch.lerp(ordered[below], ordered[above], weight)

    def to_arviz(self) -> Any:
        """The samples for ArviZ: an xarray DataTree (ArviZ 1) or InferenceData (ArviZ 0) with variable `x`.

        Draws are independent of each other, unless they are antithetic, so they are the draws of one chain: dimensions
        (chain=1, draw=n, measurement, channel, row, column), or `component` for vectors. y goes to the group
        `observed_data`, the rest to attributes of the posterior.
        Needs the extra `diagnostics`: `pip install 'scorefold[diagnostics]'`.
        """
        try:
            import arviz
        except ImportError as error:
            raise ImportError("to_arviz needs ArviZ: pip install 'scorefold[diagnostics]'") from error

        image_dims = ["channel", "row", "column"] if self.x.ndim == 5 else ["component"]
        if self.x.ndim - 2 != len(image_dims):
            image_dims = [f"axis_{i}" for i in range(self.x.ndim - 2)]
        groups: dict[str, Any] = {"posterior": {"x": self.x.detach().cpu().numpy()[None]}}
        dims = {"x": ["measurement", *image_dims]}
        if self.y is not None:
            groups["observed_data"] = {"y": self.y.detach().cpu().numpy()}
            dims["y"] = ["measurement", *[f"y_axis_{i}" for i in range(self.y.ndim - 1)]]
        if int(arviz.__version__.split(".")[0]) >= 1:
            data = arviz.from_dict(groups, dims=dims)
        else:
            data = arviz.from_dict(**groups, dims=dims)
        data["posterior"].attrs.update({key: value for key, value in self._record().items() if value is not None})
        return data

    def save(self, path: str | Path) -> None:
        """Write a safetensors file: tensors `x` and `y`, the rest as JSON in its metadata under `samples`.

        path: ends in .safetensors. Atomic: the file is complete or not there. Raises ValueError for another ending,
        OSError with a reason where it cannot be written.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise ValueError(f"path must end in {SUFFIX}, got {str(path)!r}")
        tensors = {"x": self.x, **({} if self.y is None else {"y": self.y})}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"format": FORMAT, "samples": json.dumps(self._record())}
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(serialize(tensors, metadata))
        except OSError as error:
            raise type(error)(f"samples cannot be written to {path}: {error.strerror}") from error

    @classmethod
    def load(cls, path: str | Path) -> Samples:
        """Read what `save` wrote. Nothing in the file is executed.

        Raises ValueError for a truncated file or one that `save` did not write, FileNotFoundError for none.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no samples at {path}: no such file")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{path} is no complete samples file: {error}") from error
        if metadata.get("format") != FORMAT or "x" not in tensors:
            raise ValueError(f"{path} holds no samples: its format is {metadata.get('format')}, {FORMAT} is needed")
        return cls(x=tensors["x"], y=tensors.get("y"), **json.loads(metadata["samples"]))

    def plot(self, path: str | Path, truth: Tensor | None = None) -> None:
        """Write a figure, one row per measurement: truth if given, measurement, mean, std and the first samples.

        path: its ending chooses the format (.png, .pdf, .svg). truth: (B, C, H, W). Only for images (C, H, W).
        Raises ValueError for what cannot be shown, OSError with a reason where the file cannot be written.
        """
        from inverse import figures  # matplotlib is slow to import and not needed to draw samples

        figures.write(figures.rows(self, truth), path)

    def _record(self) -> dict[str, Any]:
        return {
            "nfe": self.nfe,
            "seconds": self.seconds,
            "sampler": self.sampler,
            "hyper": dict(self.hyper),
            "seed": self.seed,
            "info": dict(self.info),
        }
