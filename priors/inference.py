"""How a learned prior's network is run: as it was written, or in the way that is fastest on this machine."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from .base import Prior
from .eight_bit import EightBit
from .preconditioned import Preconditioned
from .store import load

MODES = ("auto", "plain", "channels-last", "int8", "bfloat16", "compiled")
DEFAULT = "auto"


class BFloat16(nn.Module):
    """A network whose convolutions and products are computed in bfloat16; weights, input and output stay float32."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.image_channels = getattr(network, "image_channels", None)

    def forward(self, x: Tensor, noise: Tensor, *labels: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.network(x, noise, *labels).to(x.dtype)


def prepare(prior: Prior | str | Path, mode: str = DEFAULT) -> Prior:
    """The prior with its network run in one of `MODES`; the prior that is given stays as it is.

    prior: a learned one, or its name or file for `priors.load`.
    auto: int8 for images of any size where the processor is fast at it, else the prior as it was loaded, which is
    channels-last for those of this package; so are priors that are no networks.
    plain: float32, in the memory format of the images. channels-last: float32, the channels of a pixel beside each
    other, which convolutions on a processor prefer. int8: channels-last with the inner convolutions in 8 bits at all
    but the least noise, for processors with instructions for that; derivatives leave the rounding out. bfloat16: with 8
    significant bits, for processors and graphics cards that compute faster in them (many that have the instructions do
    not). compiled: channels-last through torch.compile, which takes a minute and a C++ compiler once for every shape.
    What comes back has the mode that was taken as its attribute `inference`.
    Move a prior to its device first. Raises ValueError for another mode, for one that the machine does not have, for a
    prior prepared in another mode, and but for auto for a prior that is no such network.
    """
    if mode not in MODES:
        raise ValueError(f"inference must be one of {', '.join(MODES)}, got {mode!r}")
    if isinstance(prior, str | Path):
        prior = load(prior)
    how = getattr(prior, "inference", None)
    if mode == how or (mode == "auto" and how):
        return prior
    if mode == "auto":
        if not (isinstance(prior, Preconditioned) and prior.image_shape is None and _eight_bits(prior)):
            return prior
        mode = "int8"
    if how:
        raise ValueError(f"prior must be as priors.load gives it to be run in {mode}, got one prepared in {how}")
    if not isinstance(prior, Preconditioned):
        raise ValueError(f"prior must be a learned one to be run in {mode}, got {type(prior).__name__}")
    if mode == "int8" and not _eight_bits(prior):
        raise ValueError(
            "inference int8 needs a prior in float32, of one image shape or for known channels, on a processor with "
            "the instructions AVX-512 VNNI or AVX-VNNI; take channels-last"
        )
    layout = torch.contiguous_format if mode == "plain" else torch.channels_last
    network = copy.deepcopy(prior.network).to(memory_format=layout)
    if mode == "int8":
        network = EightBit(Preconditioned(network, prior.mean, prior.std, prior.image_shape, prior.sigma_range))
    elif mode == "bfloat16":
        network = BFloat16(network)
    elif mode == "compiled":
        from torch._functorch import config

        # Moment matching differentiates through one call several times.
        config.donated_buffer = False
        network = torch.compile(network)
    prepared = Preconditioned(network, prior.mean, prior.std, prior.image_shape, prior.sigma_range, prior.about)
    prepared.inference = mode
    return prepared


def _eight_bits(prior: Preconditioned) -> bool:
    """Whether the prior can be run in 8 bits, by a processor with instructions for sums of such products."""
    abilities = getattr(torch.cpu, "get_capabilities", dict)()
    able = abilities.get("avx512_vnni", False) or abilities.get("avx_vnni", False)
    kinds = {(weights.device.type, weights.dtype) for weights in prior.parameters()}
    known = prior.image_shape is not None or getattr(prior.network, "image_channels", None)
    return bool(able and known and kinds == {("cpu", torch.float32)})
