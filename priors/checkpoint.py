"""The state of a training run, and the file it is saved in: safetensors, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .preconditioned import Preconditioned
from .store import build, read_tensors

FORMAT = "scorefold training 1"


@dataclass
class Run:
    """A prior in training.

    average: the moving average of the network's weights, by name, which is what a finished prior uses.
    step, seconds: how far it is, over all sittings. losses: those of the latest steps. settings: what it was started
    with that must not change under way. stopped: an interrupt ended the sitting.
    """

    prior: Preconditioned
    average: dict[str, Tensor]
    optimizer: torch.optim.Adam
    settings: dict[str, Any]
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    stopped: bool = False

    @classmethod
    def start(cls, prior: Preconditioned, settings: Mapping[str, Any]) -> Run:
        """A run at its first step."""
        average = {name: value.detach().clone() for name, value in prior.network.named_parameters()}
        optimizer = torch.optim.Adam(prior.network.parameters(), betas=(0.9, 0.99), fused=True)
        return cls(prior, average, optimizer, dict(settings))

    @contextmanager
    def averaged(self) -> Iterator[Preconditioned]:
        """The prior with its averaged weights, for as long as the context lasts."""
        current = {name: value.detach().clone() for name, value in self.prior.network.named_parameters()}
        self.prior.network.load_state_dict(self.average)
        try:
            yield self.prior.eval()
        finally:
            self.prior.network.load_state_dict(current)
            self.prior.train()

    def save(self, path: Path) -> None:
        """Write everything that a resumed run needs to a temporary file, which then takes the name."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.prior.network.named_parameters():
            tensors[f"network.{name}"] = parameter.detach()
            tensors |= {f"optimizer.{key}.{name}": value for key, value in self.optimizer.state[parameter].items()}
        self._write(path, tensors, {"losses": self.losses})

    def save_average(self, path: Path, error: float) -> None:
        """Write the averaged weights alone, with an error that they have, for `averaged_prior`."""
        self._write(path, {}, {"error": error})

    def _write(self, path: Path, more: Mapping[str, Tensor], words: Mapping[str, Any]) -> None:
        tensors = {f"average.{name}": value for name, value in self.average.items()} | dict(more)
        about = {
            **self.settings,
            **words,
            "step": self.step,
            "seconds": self.seconds,
            "network": self.prior.network.config,
            "mean": self.prior.mean,
            "std": self.prior.std,
            "image_shape": self.prior.image_shape,
            "sigma_range": self.prior.sigma_range,
        }
        temporary = path.with_name(f"{path.name}.part")
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        save_file(contiguous, temporary, metadata={"format": FORMAT, "run": json.dumps(about)})
        os.replace(temporary, path)

    def resume(self, path: Path) -> None:
        """Take over the state in a checkpoint; ValueError when that run was started with other settings."""
        about, tensors = read(path)
        needed = json.loads(json.dumps({**self.settings, "network": self.prior.network.config}))
        for name, value in needed.items():
            if about.get(name) != value:
                raise ValueError(
                    f"out must be a new folder for a run with {name} {value}: {path} was made with {about.get(name)}"
                )
        for name, parameter in self.prior.network.named_parameters():
            parameter.data.copy_(tensors[f"network.{name}"])
            self.average[name].copy_(tensors[f"average.{name}"])
            if f"optimizer.step.{name}" in tensors:
                self.optimizer.state[parameter] = {
                    "step": tensors[f"optimizer.step.{name}"],
                    # In the parameter's own memory format, on its device.
                    "exp_avg": torch.zeros_like(parameter).copy_(tensors[f"optimizer.exp_avg.{name}"]),
                    "exp_avg_sq": torch.zeros_like(parameter).copy_(tensors[f"optimizer.exp_avg_sq.{name}"]),
                }
        self.step, self.seconds, self.losses = about["step"], about["seconds"], about["losses"]


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors of a checkpoint; ValueError for any other file."""
    header, tensors = read_tensors(path, FORMAT, "checkpoint of a training run")
    return json.loads(header["run"]), tensors


def averaged_prior(path: Path) -> tuple[Preconditioned, dict[str, Any]]:
    """The prior with the averaged weights of a checkpoint, and the checkpoint's description."""
    about, tensors = read(path)
    prior = build(about)
    weights = {name.removeprefix("average."): value for name, value in tensors.items() if name.startswith("average.")}
    prior.network.load_state_dict(weights)
    return prior.eval(), about
