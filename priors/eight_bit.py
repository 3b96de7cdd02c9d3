"""A network whose convolutions are computed in 8 bits: what processors with such instructions are fastest at.

A convolution sees round(x / step) and round(w / step_w) as whole numbers of 8 bits, and sums them exactly; the rest of
the network, and what convolutions return, stays in float32. Weights have a step for every output channel, the input has
one for all pixels (Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference", Sec. 3). The
range of a layer's input changes with the noise level, forty times in `photo`, so it is measured at many levels and
looked up, never taken from the image at hand: an image does not depend on those beside it, nor a tile on the others.

A preconditioned prior multiplies what its network is wrong by with sigma, so rounding errs in proportion to the noise.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .preconditioned import Preconditioned

# Thinner convolutions are no faster in 8 bits.
CHANNELS = 16
# Ranges are widened by so much: what lies outside is cut off, which costs more than a wider step.
HEADROOM = 1.1
# Below this noise, in units of the images' standard deviation, nothing is rounded: edges are then many steps away from
# all else, and what is left to say of an image is finer than the steps.
LEAST = 0.15
# Stride, padding, dilation and groups.
GEOMETRY = [1, 1], [1, 1], [1, 1], 1
# Noise levels, log-uniform, and side of the images of any size at which ranges are measured.
LEVELS, SIDE = 24, 64


class EightBitConvolution(nn.Module):
    """A convolution in 8 bits, as `layer` has it in float32, from `settle` on; before, it takes down its ranges.

    Derivatives with respect to the input are those of `layer`: the rounding is left out of them. Where weights are
    being learned, it is `layer`.
    """

    def __init__(self, layer: nn.Conv2d):
        super().__init__()
        self.layer = layer
        self.ranges: list[tuple[float, float]] = []
        self.steps: list[float] = []
        self.zeros: list[int] = []
        self.step, self.zero = 0.0, 0
        self._packed: tuple[object, tuple[Tensor, ...]] = (None, ())

    def __getstate__(self) -> dict[str, Any]:
        # Packed weights can be neither copied nor written; they are packed again.
        return {**self.__dict__, "_packed": (None, ())}

    def settle(self, levels: int) -> None:
        """Fix the steps of these levels from the ranges of inputs, which came at one after the other, in rounds."""
        low, high = torch.tensor(self.ranges).unflatten(0, (-1, levels)).unbind(-1)
        low, high = HEADROOM * low.amin(0).clamp(max=0), HEADROOM * high.amax(0).clamp(min=1e-6)
        self.steps = ((high - low) / 255).tolist()
        self.zeros = (-255 * low / (high - low)).round().int().tolist()

    def at(self, place: float | None) -> None:
        """Take the steps of a level, between two of those that were measured; None: compute in float32."""
        self.step = 0.0
        if place is not None:
            below = min(int(place), len(self.steps) - 2)
            first, second = self.steps[below : below + 2]
            self.step, self.zero = first * (second / first) ** (place - below), self.zeros[round(place)]

    def forward(self, x: Tensor) -> Tensor:
        if not self.steps:
            self.ranges.append((float(x.min()), float(x.max())))
        learned = torch.is_grad_enabled() and self.layer.weight.requires_grad
        return _Rounded.apply(x, self) if self.step and not learned else self.layer(x)

    def rounded(self, x: Tensor) -> Tensor:
        """The convolution of the rounded x."""
        whole = torch.add(x.new_tensor(self.zero + 0.5), x, alpha=1 / self.step).clamp_(0, 255).to(torch.uint8)
        return torch.ops.onednn.qconv2d_pointwise(
            *(whole, self.step, self.zero, *self._weights(), self.layer.bias),
            *(*GEOMETRY, 1.0, 0, torch.float32, "none", [], ""),
        )

    def _weights(self) -> tuple[Tensor, ...]:
        """Packed weights, their steps and zeros, made again where the layer's weights have changed."""
        weight = self.layer.weight.detach()
        version = (weight.data_ptr(), None if weight.is_inference() else weight._version)
        if self._packed[0] != version:
            scale = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / 127
            rounded = (weight / scale[:, None, None, None]).round().to(torch.int8)
            packed = torch.ops.onednn.qconv_prepack(rounded, scale, 1.0, 0, *GEOMETRY)
            self._packed = version, (packed, scale, torch.zeros(len(scale), dtype=torch.int8))
        return self._packed[1]


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, convolution: EightBitConvolution) -> Tensor:
        return convolution.rounded(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.layer = inputs[1].layer

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        layer = ctx.layer
        return F.conv_transpose2d(gradient, layer.weight, padding=1), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return F.conv2d(tangent, ctx.layer.weight, padding=1)


class EightBit(nn.Module):
    """The network of a prior, (B, C, H, W), (B,) -> (B, C, H, W), with its wider convolutions in 8 bits.

    The prior's network is changed by it. For processors only. Different noise levels in a batch go one after the other,
    and so do threads. Raises ValueError for x on another device.
    """

    def __init__(self, prior: Preconditioned):
        super().__init__()
        self.network = prior.network
        self._one_at_a_time = threading.Lock()
        self.image_channels = getattr(prior.network, "image_channels", None)
        self.classes = getattr(prior.network, "classes", None)
        self.convolutions = replaced(prior.network)
        sigmas = np.geomspace(*prior.sigma_range, LEVELS)
        self.noise = tuple((np.log(sigmas[[0, -1]]) / 4).tolist())
        self.least = math.log(LEAST * prior.std) / 4
        for shape in (
            [(c, SIDE, SIDE) for c in self.image_channels] if prior.image_shape is None else [prior.image_shape]
        ):
            self._measure(prior, dead_leaves(shape), sigmas)
        for convolution in self.convolutions:
            convolution.settle(LEVELS)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_one_at_a_time"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._one_at_a_time = threading.Lock()

    @torch.no_grad()
    def _measure(self, prior: Preconditioned, image: Tensor, sigmas: np.ndarray) -> None:
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
        for sigma in sigmas.tolist():
            prior.denoise(image + sigma * noise, sigma)

    def forward(self, x: Tensor, noise: Tensor, *labels: Tensor) -> Tensor:
        if x.device.type != "cpu":
            raise ValueError(
                f"x must be on the processor for a prior in int8, got one on {x.device}; take channels-last"
            )
        levels, which = noise.unique(return_inverse=True)
        if len(levels) == 1:
            return self._at(float(levels), x, noise, *labels)
        parts = [(which == i).nonzero()[:, 0] for i in range(len(levels))]
        done = [self._at(float(noise[i[0]]), *(each[i] for each in (x, noise, *labels))) for i in parts]
        return torch.cat(done)[torch.cat(parts).argsort()]

    def _at(self, level: float, *arguments: Tensor) -> Tensor:
        low, high = self.noise
        place = (LEVELS - 1) * min(max((level - low) / (high - low), 0.0), 1.0)
        with self._one_at_a_time:
            for convolution in self.convolutions:
                convolution.at(place if level >= self.least else None)
            return self.network(*arguments)


def dead_leaves(shape: tuple[int, ...], discs: int = 300, seed: int = 0) -> Tensor:
    """An image of discs that hide each other, (1, C, H, W) in [0, 1]: edges and areas as photographs have them.

    Radii r have the density r^-3, which makes it look alike at every scale (Lee, Mumford and Huang 2001, "Occlusion
    models for natural images").
    """
    random = np.random.default_rng(seed)
    channels, height, width = shape[0], 2 * shape[1], 2 * shape[2]
    rows, columns = np.mgrid[:height, :width]
    image = np.full((channels, height, width), 0.5, np.float32)
    for _ in range(discs):
        radius = 3 / math.sqrt(1 - random.random())
        top, left = random.random(2) * (height, width)
        inside = (rows - top) ** 2 + (columns - left) ** 2 < radius**2
        image[:, inside] = random.random((channels, 1))
    return F.avg_pool2d(torch.from_numpy(image)[None], 4, 2, 1)


def replaced(network: nn.Module) -> list[EightBitConvolution]:
    """The convolutions of 3 x 3 and wide enough, each now in 8 bits, in the order of the network."""
    found = []
    for module in list(network.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is nn.Conv2d and min(layer.in_channels, layer.out_channels) >= CHANNELS and simple(layer):
                setattr(module, name, EightBitConvolution(layer))
                found.append(getattr(module, name))
    return found


def simple(layer: nn.Conv2d) -> bool:
    """Whether it is one of 3 x 3 that keeps the size of the image, with zeros around it."""
    geometry = [*map(list, (layer.stride, layer.padding, layer.dilation)), layer.groups]
    return layer.kernel_size == (3, 3) and geometry == [*GEOMETRY] and layer.padding_mode == "zeros"
