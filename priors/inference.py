"""How a learned prior's network is run: as it was written, or in the way that is fastest on this machine."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from .base import Prior
from .preconditioned import Preconditioned
from .store import load

MODES = ("plain", "channels-last", "bfloat16", "compiled")
DEFAULT = "channels-last"


class BFloat16(nn.Module):
    """A network whose convolutions and products are computed in bfloat16; weights, input and output stay float32."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.image_channels = getattr(network, "image_channels", None)

    def forward(self, x: Tensor, noise: Tensor, *labels: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.network(x, noise, *labels).to(x.dtype)


def prepare(prior: Prior | str | Path, mode: str = DEFAULT) -> Preconditioned:
    """The prior with its network run in one of `MODES`; the prior that is given stays as it is.

    prior: a learned one, or its name or file for `priors.load`.
    plain: float32, in the memory format of the images. channels-last: float32, the channels of a pixel beside each
    other, which convolutions on a processor prefer. bfloat16: the same with 8 significant bits, for processors and
    graphics cards that compute faster in them (many that have the instructions do not). compiled: channels-last through
    torch.compile, which takes a minute and a C++ compiler once for every image shape.
    Raises ValueError for another mode, and for a prior that is no such network.
    """
    if mode not in MODES:
        raise ValueError(f"inference must be one of {', '.join(MODES)}, got {mode!r}")
    if isinstance(prior, str | Path):
        prior = load(prior)
    if not isinstance(prior, Preconditioned):
        raise ValueError(f"prior must be a learned one to be run in {mode}, got {type(prior).__name__}")
    layout = torch.contiguous_format if mode == "plain" else torch.channels_last
    network = copy.deepcopy(prior.network).to(memory_format=layout)
    if mode == "bfloat16":
        network = BFloat16(network)
    elif mode == "compiled":
        from torch._functorch import config

        # Moment matching differentiates through one call several times.
        config.donated_buffer = False
        network = torch.compile(network)
    return Preconditioned(network, prior.mean, prior.std, prior.image_shape, prior.sigma_range, prior.about)
