"""A small convolutional U-Net that is told the noise level: the network inside a learned prior.

Residual blocks with group normalisation, modulated by an embedding of the noise level, over a few resolutions, as in
Ho et al. 2020 (DDPM) and Karras et al. 2022 (EDM), made thin: the finest level is narrow, the coarse levels carry the
weights, and the skip connections add instead of concatenating. Without attention it is fully convolutional, and `local`
blocks, which do not normalise, make what it says of a pixel depend on a neighbourhood alone, whatever the image's size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NoiseEmbedding(nn.Module):
    """Fourier features of a scalar, then a two-layer network: (B,) -> (B, features), moved by a shift of that shape."""

    frequencies: Tensor

    def __init__(self, features: int, frequencies: int = 16):
        super().__init__()
        # log(sigma) / 4 spans 2.7 over sigma in (0.002, 80): periods from 8 down to 1 tell it all and stay smooth.
        octaves = torch.linspace(-3, 0, frequencies)
        self.register_buffer("frequencies", 2 * math.pi * 2**octaves, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * frequencies, features), nn.SiLU(), nn.Linear(features, features))

    def forward(self, noise: Tensor, shift: Tensor | float = 0.0) -> Tensor:
        angles = noise.reshape(-1, 1) * self.frequencies
        return F.silu(self.layers(torch.cat([angles.sin(), angles.cos()], dim=1)) + shift)


class ResidualBlock(nn.Module):
    """x + conv(silu(modulated norm(conv(silu(norm(x)))))), the second convolution starting at zero."""

    def __init__(self, channels: int, features: int):
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = group_norm(channels)
        self.modulation = start_at_zero(nn.Linear(features, 2 * channels))
        self.conv2 = start_at_zero(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.norm2(self.conv1(activated(self.norm1(x))))
        return x + self.conv2(activated(modulated(hidden, self.modulation(embedding))))


class PlainBlock(nn.Module):
    """x + conv(silu(modulated conv(x))), the second convolution starting at zero: nothing takes an amplitude away."""

    def __init__(self, channels: int, features: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = start_at_zero(nn.Linear(features, 2 * channels))
        self.conv2 = start_at_zero(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return x + self.conv2(activated(modulated(self.conv1(x), self.modulation(embedding))))


class Stack(nn.ModuleList):
    """Residual blocks of one width, one after the other."""

    def __init__(self, count: int, channels: int, features: int, local: bool = False):
        block = PlainBlock if local else ResidualBlock
        super().__init__(block(channels, features) for _ in range(count))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block in self:
            x = block(x, embedding)
        return x


class Halving(nn.Conv2d):
    """Convolution of 2 x 2 pixels at a stride of two, by one product per block: what processors are faster at."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pixel_unshuffle(x, 2), self.weight.flatten(1)[:, :, None, None], self.bias)


class SelfAttention(nn.Module):
    """x + attention over all pixels, in heads of 32 channels, the output starting at zero."""

    def __init__(self, channels: int):
        super().__init__()
        self.heads = max(1, channels // 32)
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = start_at_zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        depth = channels // self.heads
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, depth, height * width)
        query, key, value = qkv.transpose(-1, -2).unbind(1)
        # Written out, because the fused kernels lack forward-mode and second derivatives.
        weights = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(depth), dim=-1)
        return x + self.out((weights @ value).transpose(-1, -2).reshape(batch, channels, height, width))


class UNet(nn.Module):
    """Image and noise level to image: (B, C, H, W), (B,) -> (B, C, H, W), for any height and width.

    in_channels: C, or all C that an image may have: each has its own first and last layer, the rest is shared.
    channels: width of each level, finest first; each level halves the resolution of the one before.
    encoder_blocks, decoder_blocks: residual blocks at each level but the coarsest, which has middle_blocks.
    attention: self-attention at the coarsest level, after its first block. features: size of the noise embedding.
    classes: of a conditional network, which takes labels (B,) from 0 to classes, the last one, like none at all, for an
    image of any class; their embedding is added to that of the noise and starts at zero. local: blocks without
    normalisation, for images of any size.
    Any second argument that grows slowly with the noise will do; a preconditioned prior passes log(sigma) / 4.
    The output starts at zero. Sizes that do not halve often enough are padded by their edge, and cropped again.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int] = 1,
        channels: Sequence[int] = (16, 48, 96),
        encoder_blocks: Sequence[int] = (0, 1),
        middle_blocks: int = 2,
        decoder_blocks: Sequence[int] = (1, 1),
        attention: bool = True,
        features: int = 128,
        classes: int | None = None,
        local: bool = False,
    ):
        super().__init__()
        if not len(channels) - 1 == len(encoder_blocks) == len(decoder_blocks):
            raise ValueError(
                f"encoder_blocks and decoder_blocks need one number for each of the {len(channels) - 1} levels above "
                f"the coarsest, got {len(encoder_blocks)} and {len(decoder_blocks)}"
            )
        self.config = {
            "in_channels": in_channels if isinstance(in_channels, int) else list(in_channels),
            "channels": list(channels),
            "encoder_blocks": list(encoder_blocks),
            "middle_blocks": middle_blocks,
            "decoder_blocks": list(decoder_blocks),
            "attention": attention,
            "features": features,
        }
        if classes is not None:
            self.config["classes"] = classes
        if local:
            self.config["local"] = local
        self.image_channels = (in_channels,) if isinstance(in_channels, int) else tuple(in_channels)
        self.classes = classes
        steps = list(pairwise(channels))
        self.embedding = NoiseEmbedding(features)
        first = {c: nn.Conv2d(c, channels[0], 3, padding=1) for c in self.image_channels}
        self.conv_in = by_channels(in_channels, first)
        self.encoder = nn.ModuleList(
            Stack(count, width, features, local) for count, width in zip(encoder_blocks, channels, strict=False)
        )
        self.down = nn.ModuleList(Halving(fine, coarse) for fine, coarse in steps)
        self.middle = Stack(middle_blocks, channels[-1], features, local)
        self.attention = SelfAttention(channels[-1]) if attention else None
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in steps)
        self.decoder = nn.ModuleList(
            Stack(count, width, features, local) for count, width in zip(decoder_blocks, channels, strict=False)
        )
        self.norm_out = None if local else group_norm(channels[0])
        last = {c: start_at_zero(nn.Conv2d(channels[0], c, 3, padding=1)) for c in self.image_channels}
        self.conv_out = by_channels(in_channels, last)
        # The padding row, that of "any class", stays zero.
        self.labels = (
            None if classes is None else start_at_zero(nn.Embedding(classes + 1, features, padding_idx=classes))
        )

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        height, width = x.shape[-2:]
        multiple = 2 ** len(self.down)
        bottom, right = -height % multiple, -width % multiple
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        return self.same_size(x, noise, labels)[..., :height, :width]

    def same_size(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """The network on an image whose height and width halve at every level."""
        embedding = self.embedding(noise, 0.0 if labels is None else self.labels(labels))
        hidden = layer_for(self.conv_in, x.shape[1])(x)
        skips = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            hidden = blocks(hidden, embedding)
            skips.append(hidden)
            hidden = down(hidden)
        for position, block in enumerate(self.middle):
            hidden = block(hidden, embedding)
            if position == 0 and self.attention is not None:
                hidden = self.attention(hidden)
        for blocks, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            hidden = blocks(skips.pop() + F.pixel_shuffle(up(hidden), 2), embedding)
        # Denoising is nearly linear where there is little noise: without norms the last layer is too.
        if self.norm_out is not None:
            hidden = F.silu(self.norm_out(hidden))
        return layer_for(self.conv_out, x.shape[1])(hidden)


class Labelled(nn.Module):
    """A conditional network with its labels filled in, one for all images or one for each: its weights are shared."""

    labels: Tensor

    def __init__(self, network: UNet, labels: int | Tensor):
        super().__init__()
        if getattr(network, "classes", None) is None:
            raise ValueError(f"labels need a network with classes, like fashion-28-conditional's; got {labels}")
        labels = torch.as_tensor(labels)
        if labels.is_floating_point() or labels.ndim > 1 or not ((labels >= 0) & (labels <= network.classes)).all():
            raise ValueError(
                f"labels must be one whole number or one for each image, from 0 to {network.classes - 1}, or "
                f"{network.classes} for any class, got {labels.tolist()}"
            )
        self.network = network
        self.image_channels = network.image_channels
        self.register_buffer("labels", labels.long().reshape(-1), persistent=False)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        if len(self.labels) not in (1, len(x)):
            raise ValueError(f"x must hold as many images as there are labels ({len(self.labels)}), got {len(x)}")
        return self.network(x, noise, self.labels.expand(len(x)))


def modulated(x: Tensor, modulation: Tensor) -> Tensor:
    """(1 + scale) x + shift: (B, C, H, W), and scale and shift side by side, (B, 2 C) -> (B, C, H, W)."""
    scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
    return torch.addcmul(shift, 1 + scale, x)


def activated(x: Tensor) -> Tensor:
    """SiLU of what nothing else needs: overwritten where nothing is differentiated, in less memory and time."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalisation over groups of about 16 channels."""
    return nn.GroupNorm(math.gcd(channels, max(1, channels // 16)), channels)


def start_at_zero(layer: nn.Linear | nn.Conv2d | nn.Embedding) -> nn.Linear | nn.Conv2d | nn.Embedding:
    """The same layer with weight and bias set to zero, so that a residual branch begins as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def by_channels(in_channels: int | Sequence[int], layers: Mapping[int, nn.Module]) -> nn.Module:
    """The one layer of a network for one number of channels, or all layers under their numbers."""
    if isinstance(in_channels, int):
        return layers[in_channels]
    return nn.ModuleDict({str(channels): layer for channels, layer in layers.items()})


def layer_for(layers: nn.Module, channels: int) -> nn.Module:
    """The layer among those of `by_channels` for images of that many channels."""
    return layers[str(channels)] if isinstance(layers, nn.ModuleDict) else layers
