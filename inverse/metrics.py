"""How good reconstructions and posterior samples are: plain functions from tensors to tensors.

Images are in [0, 1]. B counts measurements (or truths), n the draws per measurement.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import operators
from inverse.samples import Samples


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, -10 log10 of the mean squared error, for images in [0, 1].

    x: (B, *image_shape) or (n, B, *image_shape), truth: (B, *image_shape). Returns (B,) or (n, B); inf where equal.
    Raises ValueError when the shapes do not match.
    """
    _check_against(x, truth)
    error = (x - truth).square().flatten(x.ndim - truth.ndim + 1).mean(-1)
    return -10 * torch.log10(error)


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of Wang et al. 2004: Gaussian window of standard deviation 1.5 over 11 x 11 pixels.

    x: (B, C, H, W) or (n, B, C, H, W), truth: (B, C, H, W), both in [0, 1]. Returns (B,) or (n, B).
    Raises ValueError when the shapes do not match, or the images are not (C, H, W) of at least 11 x 11 pixels.
    """
    from skimage.metrics import structural_similarity  # costs a second to import, and few programs need it

    _check_against(x, truth)
    if truth.ndim != 4 or min(truth.shape[-2:]) < 11:
        raise ValueError(f"ssim needs truth of shape (B, C, H, W), H and W >= 11, got {tuple(truth.shape)}")
    pairs = zip(
        x.reshape(-1, *truth.shape[1:]).double().cpu().numpy(),
        truth.expand(x.shape).reshape(-1, *truth.shape[1:]).double().cpu().numpy(),
        strict=True,
    )
    values = [
        structural_similarity(
            *pair, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for pair in pairs
    ]
    return torch.tensor(values, dtype=truth.dtype, device=truth.device).reshape(x.shape[: x.ndim - truth.ndim + 1])


def residual_ratio(x: Tensor, y: Tensor, physics: torch.nn.Module, sigma: float | Tensor | None = None) -> Tensor:
    """|A x - y| over sigma sqrt(m), the size that the noise alone would give it: near 1 where x explains y.

    A draw of the exact posterior has the same joint law with y as the truth, so its ratio is 1 on average over y; far
    below 1 is fitting the noise, far above 1 ignoring the data. m counts the entries of y that were measured, which
    are not those that a mask has hidden (`operators.measured`).

    x: (n, B, *image_shape); x[None] for one reconstruction per measurement. y: (B, *measurement_shape). sigma: standard
    deviation of the noise in units of y, a number or (B,); None takes it from the physics. The list of a stack and
    complex y are taken as real vectors (`operators.flattened`). Returns (n, B).
    Raises ValueError when x and y differ in B, or no Gaussian noise level is known.
    """
    physics, y = operators.as_real(physics, y, tuple(x.shape[2:]))
    sigma = operators.noise_sigma(physics) if sigma is None else sigma
    if sigma is None:
        raise ValueError("residual_ratio needs sigma where the physics has no Gaussian noise, got None")
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1)
    if not bool((sigma > 0).all()):
        raise ValueError(f"sigma must be above 0, got {sigma.min():g}")
    if x.ndim < 3 or x.shape[1] != len(y):
        raise ValueError(f"x must be (n, {len(y)}, *image_shape) for these {len(y)} measurements, got {tuple(x.shape)}")
    n, batch = x.shape[:2]
    one_per_chain = operators.per_image(physics, torch.arange(batch, device=x.device).repeat(n))
    with torch.no_grad():
        predicted = one_per_chain.A(x.flatten(0, 1)).reshape(n, batch, -1)
    mask = operators.measured(physics)
    counted = torch.ones_like(y) if mask is None else mask.expand_as(y)
    m = counted.reshape(batch, -1).sum(-1)
    return (predicted - y.reshape(batch, -1)).norm(dim=-1) / (sigma * m.sqrt())


def attainable_level(n: int, level: float) -> float:
    """The coverage to expect of `coverage(..., level)` with n exact draws: level, but at most (n - 1)/(n + 1)."""
    if n < 2:
        raise ValueError(f"n must be at least 2 draws for an interval, got {n}")
    if not 0 < level < 1:
        raise ValueError(f"level must be above 0 and below 1, got {level}")
    return min(level, (n - 1) / (n + 1))


def coverage(samples: Samples | Tensor, truth: Tensor, level: float = 0.9, grid: float | None = None) -> Tensor:
    """Share of each image's pixels whose truth lies in the central credible interval of the samples.

    With n draws from the exact posterior the truth is exchangeable with them, so its rank among them is uniform on
    0..n, and the interval between the k-th smallest and the k-th largest draw covers it with probability
    1 - 2k/(n + 1), whatever the law. The k for `level` is k = (1 - level)(n + 1)/2; a k between two integers counts
    both intervals, weighted so that the expectation is exactly `level`. The widest interval, k = 1, covers
    (n - 1)/(n + 1): that is all that can be had of a higher level. Sixteen draws and level 0.9 give k = 0.85 < 1, so
    calibrated draws show 15/17 = 0.882 there, and `attainable_level` says so. The naive interval between the 5% and
    95% quantiles of the draws would show 0.9 * 15/17 = 0.794 and look overconfident.

    Where draws equal the truth its rank is any of several, and counts by the mean over them: so the expectation stays
    exact for laws with atoms too, such as a black background. grid: spacing of the truth's values, 1/255 for 8-bit
    pictures, on which samples and truth are then compared; None compares them as they are.

    Antithetic samples are not exchangeable with the truth: the widest interval of theirs covers up to n/(n + 2), which
    it does where the posterior is Gaussian.

    samples: (n, B, *image_shape) with n >= 2, truth: (B, *image_shape). Returns (B,).
    Exact in expectation for 1/(n + 1) <= level <= (n - 1)/(n + 1).
    """
    x = samples.x if isinstance(samples, Samples) else samples
    if x.ndim != truth.ndim + 1:
        raise ValueError(f"samples must be (n, *truth.shape), truth is {tuple(truth.shape)}, got {tuple(x.shape)}")
    _check_against(x, truth)
    n = len(x)
    k = (1 - attainable_level(n, level)) * (n + 1) / 2
    k = round(k, 9)  # 0.9 and 19 draws are k = 1, not 0.9999999999999998
    if grid is not None:
        x, truth = (x / grid).round(), (truth / grid).round()
    # hits[r]: by how much a truth of rank r (draws below it) is covered, the weighted mean of two intervals
    depth = torch.minimum(torch.arange(n + 1), n - torch.arange(n + 1))
    inner = k - math.floor(k)
    hits = (1 - inner) * (depth >= math.floor(k)).double() + inner * (depth >= math.floor(k) + 1).double()
    total = torch.cat([torch.zeros(1, dtype=torch.float64), hits.cumsum(0)]).to(x.device)
    below, equal = (x < truth).sum(0), (x == truth).sum(0)
    return ((total[below + equal + 1] - total[below]) / (equal + 1)).flatten(1).mean(1).to(truth.dtype)


def sliced_wasserstein(
    a: Tensor, b: Tensor, projections: int = 100, p: int = 1, seed: int = 0, per_measurement: bool = False
) -> Tensor:
    """Sliced Wasserstein distance of two samples: (mean over random directions of W_p^p)^(1/p).

    With p = 1, the default, this is the mean over slices of the one-dimensional W1. It is neither the max-sliced
    distance nor the sliced W2 (p = 2): numbers of different kinds must not be put in one table. Directions are uniform
    on the unit sphere. The two samples may differ in size, W_p being the distance of their quantile functions.

    a: (n, ...), b: (m, ...), flattened to (n, d) and (m, d), and the distance is (). With per_measurement they are
    (n, B, ...) and (m, B, ...), and each measurement has its distance, (B,). The same seed gives the same directions.
    Raises ValueError for an empty sample, another dimension, projections < 1 or p < 1.
    """
    if len(a) < 1 or len(b) < 1 or a.shape[1:] != b.shape[1:]:
        raise ValueError(f"a and b must be samples of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    if projections < 1 or p < 1:
        raise ValueError(f"projections and p must be at least 1, got {projections} and {p}")
    groups = a.shape[1] if per_measurement else 1
    dtype = torch.promote_types(a.dtype, b.dtype)
    flat_a, flat_b = (s.to(dtype).reshape(len(s), groups, -1) for s in (a, b.to(a.device)))
    directions = torch.randn(
        flat_a.shape[-1], projections, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    directions = (directions / directions.norm(dim=0)).to(flat_a)
    sorted_a, sorted_b = ((s @ directions).sort(dim=0).values for s in (flat_a, flat_b))

    # Both quantile functions are steps; between two neighbouring levels of the union of i/n and j/m neither moves.
    # In units of 1/(nm) the levels are integers, so that no level is lost or doubled by rounding.
    n, m = len(a), len(b)
    levels = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]).unique()
    width = (levels.diff().double() / (n * m)).to(sorted_a)
    start = levels[:-1].to(a.device)
    gap = sorted_a[start // m] - sorted_b[start // n]
    powers = torch.einsum("l,lgp->gp", width, gap.abs() ** p)
    distance = powers.mean(-1) ** (1 / p)
    return distance if per_measurement else distance[0]


def _check_against(x: Tensor, truth: Tensor) -> None:
    if truth.ndim < 2 or x.ndim not in (truth.ndim, truth.ndim + 1) or x.shape[-truth.ndim :] != truth.shape:
        raise ValueError(
            f"x must be (B, *image_shape) or (n, B, *image_shape) like truth {tuple(truth.shape)}, got {tuple(x.shape)}"
        )
