"""Does a learned prior generalise, or has it memorised its training images?

With D a denoiser, D* that of the empirical law of the training images (`Empirical` with bandwidth 0), W a filter that
knows no more than the mean spectrum of all images (Wiener's), and mean squared errors E on training images (t) and on
held-out ones (h),

    share = (E_h(D) - r E_t(D)) / (E_h(D*) - r E_t(D*)),   r = E_h(W) / E_t(W):

1 for D*, which has memorised all; 0 for W, and for every denoiser for which images that it has not seen are harder only
as far as they are for W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from inverse.robustness.audit import Audit, audit
from priors import Empirical, Prior, check_score
from priors.base import Sigma
from priors.data_sets import generator

SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
BANDWIDTHS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.14, 0.2, 0.3)
NONE, MUCH = 0.1, 0.5
# What the exact denoiser of the training images must gain by knowing an image, in its error on others, to tell.
LEAST_GAIN = 0.05
# Of the error of a denoiser that has learned nothing: what is not below it is no better.
NO_BETTER = 0.99
RESAMPLES = 1000
CHUNK = 32

Value = tuple[float, float]


@dataclass(frozen=True)
class Level:
    """Mean squared errors per pixel at a noise level, each with its standard error over images.

    held_out, training: of the prior. linear: of Wiener's filter on held-out images. kernel: of the training images'
    kernel mixture on held-out ones, at the bandwidth that is best on a quarter of them. exact: of the exact denoiser of
    the training images on held-out ones. share: of memory, with the ends of its 95% bootstrap interval.
    score: relative error of `check_score`.
    """

    sigma: float
    held_out: Value
    training: Value
    linear: Value
    kernel: Value
    bandwidth: float
    exact: Value
    share: tuple[float, float, float]
    score: float


@dataclass(frozen=True)
class Generalisation:
    """levels: see `Level`. audit: of the score at training images, against that of the training images' empirical law.

    counts: training images in the reference, training and held-out images in the errors. verdict: one sentence or two.
    """

    levels: tuple[Level, ...]
    audit: Audit
    counts: tuple[int, int, int]
    verdict: str


@torch.no_grad()
def generalisation(
    prior: Prior, training: Tensor, held_out: Tensor, seed: int = 1000, points: int = 256, progress: bool = False
) -> Generalisation:
    """What a prior knows of images it has seen and of others, beside the exact denoiser of those it has seen.

    training: (N, C, h, w) in [0, 1], the reference. held_out: (M, C, h, w). At most `points` of both are denoised, each
    with the same noise for all denoisers. progress: a bar.
    Raises ValueError for fewer than 8 training or 2 held-out images.
    """
    if len(training) < 8 or len(held_out) < 2:
        raise ValueError(
            f"training must hold at least 8 and held_out at least 2 images, got {len(training)} and {len(held_out)}"
        )
    seen = training[torch.randperm(len(training), generator=generator(seed, 0))[:points]]
    unseen = held_out[:points]
    denoisers = prior, Empirical(training, 0.0), Wiener(seen, unseen)
    bar = tqdm(enumerate(SIGMAS), "measure", len(SIGMAS), unit="level", disable=not progress)
    levels = [_level(denoisers, training, seen, unseen, sigma, seed + 10 * i) for i, sigma in bar]
    found = audit(prior, denoisers[1], seen, SIGMAS, n=len(seen), seed=seed, chunk_size=CHUNK)
    return Generalisation(tuple(levels), found, (len(training), len(seen), len(unseen)), verdict(levels, found))


class Wiener(Prior):
    """The best filter for a mean spectrum, to which each of two sets of images contributes half."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        super().__init__()
        self.mean = (first.mean() + second.mean()) / 2
        first_power, second_power = (
            torch.fft.fft2(images - self.mean, norm="ortho").abs().square().mean((0, 1)) for images in (first, second)
        )
        self.power = (first_power + second_power) / 2

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """x filtered by S / (S + sigma^2), S the spectrum. x: (B, C, h, w), sigma: a number."""
        gain = self.power / (self.power + sigma**2)
        return self.mean + torch.fft.ifft2(gain * torch.fft.fft2(x - self.mean)).real


def _level(
    denoisers: Sequence[Prior], training: Tensor, seen: Tensor, unseen: Tensor, sigma: float, seed: int
) -> Level:
    few = unseen[: max(2, len(unseen) // 4)]
    kernels = {h: errors(Empirical(training, h), few, sigma, seed).mean().item() for h in BANDWIDTHS}
    bandwidth = min(kernels, key=lambda h: kernels[h])
    on_unseen = torch.stack([errors(one, unseen, sigma, seed) for one in denoisers])
    on_seen = torch.stack([errors(one, seen, sigma, seed + 1) for one in denoisers])
    points = unseen[:8] + sigma * torch.randn(unseen[:8].shape, generator=generator(seed, 2))
    return Level(
        sigma=sigma,
        held_out=_mean(on_unseen[0]),
        training=_mean(on_seen[0]),
        linear=_mean(on_unseen[2]),
        kernel=_mean(errors(Empirical(training, bandwidth), unseen, sigma, seed)),
        bandwidth=bandwidth,
        exact=_mean(on_unseen[1]),
        share=_share(on_unseen, on_seen, generator(seed, 3)),
        score=check_score(denoisers[0], points.to(_device(denoisers[0], points)), sigma),
    )


def errors(prior: Prior, clean: Tensor, sigma: float, seed: int) -> Tensor:
    """Mean squared denoising error per pixel of each image, (N,) in float64, with noise that the seed gives."""
    noisy = clean + sigma * torch.randn(clean.shape, generator=generator(seed, 1))
    parts = [
        (prior.denoise(x.to(_device(prior, x)), sigma).cpu().double() - x0.double()).square().flatten(1).mean(1)
        for x, x0 in zip(noisy.split(CHUNK), clean.split(CHUNK), strict=True)
    ]
    return torch.cat(parts)


def verdict(levels: Sequence[Level], found: Audit) -> str:
    """Generalises, memorises, or something between, at the levels of which the images tell it; and has it learned?"""
    told = [level for level in levels if level.share[2] - level.share[1] < MUCH]
    worst = max(told or levels, key=lambda level: level.share[0])
    share, low, high = (max(value, 0.0) for value in worst.share)
    relative = next(row["relative"] or 0.0 for row in found.table if row["sigma"] == worst.sigma)
    beaten = [level for level in levels if level.held_out[0] >= NO_BETTER * best_known(level)]
    if share >= MUCH:
        word = "memorises"
    elif low > NONE:
        word = "memorises in part"
    elif 2 * len(beaten) > len(levels):
        word = "has learned too little to tell"
    elif high < NONE:
        word = "generalises"
    else:
        word = "is not shown to generalise, by so few images"
    sentence = (
        f"It {word}: of what the exact denoiser of the training images gains by having seen an image, it gains at most "
        f"{share:.0%} (95%: {low:.0%} to {high:.0%}), at sigma = {worst.sigma:g}; there its score at training images "
        f"differs from that denoiser's by {relative:.0%} of it."
    )
    if not beaten:
        return sentence
    where = ", ".join(f"{level.sigma:g}" for level in beaten)
    return f"{sentence} On held-out images the filter or the kernel mixture is as good at sigma = {where}."


def best_known(level: Level) -> float:
    """The smaller error on held-out images of those who have learned nothing: filter and kernel mixture."""
    return min(level.kernel[0], level.linear[0])


def _share(unseen: Tensor, seen: Tensor, random: torch.Generator) -> tuple[float, float, float]:
    """The share of memory and its interval, from errors (3, N) of prior, exact denoiser and filter.

    0 where the exact denoiser of the training images knows them hardly better than others.
    """

    def ratio(unseen: Tensor, seen: Tensor) -> Tensor:
        (ours, memory, linear), (known, recalled, linear_known) = unseen.mean(-1), seen.mean(-1)
        harder = linear / linear_known
        gap, least = memory - harder * recalled, LEAST_GAIN * memory
        return torch.where(gap > least, (ours - harder * known) / torch.maximum(gap, least), 0.0)

    again = [torch.randint(n, (RESAMPLES, n), generator=random) for n in (unseen.shape[1], seen.shape[1])]
    resampled = ratio(unseen[:, again[0]], seen[:, again[1]])
    low, high = resampled.quantile(torch.tensor([0.025, 0.975], dtype=resampled.dtype)).tolist()
    return ratio(unseen, seen).item(), low, high


def _mean(values: Tensor) -> Value:
    return values.mean().item(), values.std().item() / len(values) ** 0.5


def _device(prior: Prior, x: Tensor) -> torch.device:
    return next(prior.parameters(), x).device
