"""How wrong is a prior's score? Measured per noise level, against an exact prior or on held-out images alone.

Write D for the denoiser of the prior, D* for the right one and e = (D - D*) / sigma^2 for the error of the score, at
points x = x0 + sigma z with x0 an image and z ~ N(0, I).

With a reference D* is known, and e is measured. Without one it is not, but D* is the projection of x0 on the functions
of x, so that for every function f of x

    E|D - x0|^2 = E|D - D*|^2 + E|D* - x0|^2                        so E|D - D*|^2 <= E|D - x0|^2,
    E|D - x0|^2 - E|D + f - x0|^2 = E|D - D*|^2 - E|D + f - D*|^2   so E|D - D*|^2 >= the improvement by any f.

The held-out loss is thus an upper bound of the error, and what any correction improves it by is a lower bound, whatever
the law of the images is; what lies in between cannot be told from images alone. Since E|D* - x0|^2 tends to 0 with
sigma, the error is o(sigma^-2) in the mean square exactly when the loss tends to 0.

With f = D_b - D the second line is the excess of the loss over that of another prior, a baseline,

    E|D - x0|^2 - E|D_b - x0|^2 = E|D - D*|^2 - E|D_b - D*|^2,

which is the error itself where the baseline is the right prior. Both losses are taken at the same images and noise,
so that most of the chance in them is gone from their difference.

Limits for |e| = c sigma^beta as sigma tends to 0 (Li et al. 2025, arXiv 2509.24912, Theorems 4.1, 5.1 and 6.1): a
generic prior needs beta > 0, a maximum-entropy prior beta > -2. The theorems ask it of the supremum over a
neighbourhood of the manifold; an audit measures the mean square near the images, which is weaker: at distance r the
score is of order r / sigma^2, so that a score which is nothing but zero has an error of order sigma^-1 at the distance
sigma, and of order sigma^-2 only farther away. A verdict therefore says so where an error does not vanish beside the
score itself, of order sigma^(-1 - alpha/2) at r = sigma^(1 - alpha/2).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inverse import report
from inverse.checks import whole
from inverse.files import replacing
from priors.base import Prior

FORMAT = "scorefold audit 2"
SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5)
LEAST_IMAGES = 8
QUANTILES = (0.025, 0.975)
# A score whose rms error does not vary at all would have infinite weight in the fit.
LEAST_STD = 1e-4
# A relative error that falls more slowly than this power of sigma is not told from one that stays.
LEAST_DECAY = 0.1

SOURCE = "Li et al. 2025, Theorems 4.1, 5.1, 6.1"

Row = dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class Audit:
    """The error of a prior's score per noise level. Intervals are 95% bootstrap intervals over images.

    table: one row per sigma (units of the data), in units of a score (1 / unit of the data) unless said otherwise:
        rms: sqrt(E|e|^2), |e| the Euclidean norm over the whole image; without a reference the part of it that the
            images demonstrate, a lower bound (0 where they demonstrate none). low, high: its interval,
            which without a reference takes the coefficients of the correction as they are.
        sup: the largest |e| among the n points, a lower bound of the supremum; None without a reference.
        relative: rms over the rms of the reference's score, without a reference over that of the prior's own
            (None where that is 0).
        at_most: upper bound of the rms error, sqrt(E|D - x0|^2) / sigma^2; None with a reference. at_most_low,
            at_most_high: its interval; that of the loss follows from it.
        loss: E|D - x0|^2, the summed squared error of an image, in squared units of the data; None with a reference.
        excess: loss minus the smallest loss of a baseline, at the same images and noise; None without a baseline.
            excess_low, excess_high: its interval. Where it contains 0, the two losses are not told apart.
        implied: sqrt(excess) / sigma^2, 0 where the excess is negative: the rms error if that baseline is the right
            prior, else a lower bound; None without a baseline. implied_low, implied_high: its interval. Of several
            baselines the best is chosen at the same images, which overstates the excess a little.
    fitted: what the power law is fitted to: "rms" with a reference. Without one "implied" if excess_low is above 0 at
        two levels or more, else "at_most", so that the law is an upper bound. levels: the sigmas that it is fitted at,
        of "implied" those where excess_low is above 0.
    c, beta: of the power law c sigma^beta that is fitted, by least squares of logarithms weighted by their bootstrap
        variances; c_interval, beta_interval, from the same resamples of images as those of the table. None where there
        is no error. The intervals tell of the choice of images, not of how far the law is from a power.
    misfit: largest factor between what is fitted and the power law; None where there is no error.
    verdict: one sentence on what that means for the two kinds of prior, as sigma tends to 0 if the law goes on.
    prior, reference: class names; reference None without one. n: images. seed: of the choice of images and the noise.
    alpha: the points were x0 + sigma^(1 - alpha/2) z. baseline: class names of the baselines, "" without one.
    """

    table: tuple[Row, ...]
    c: float | None
    c_interval: tuple[float, float] | None
    beta: float | None
    beta_interval: tuple[float, float] | None
    misfit: float | None
    verdict: str
    prior: str
    reference: str | None
    n: int
    seed: int
    alpha: float = 0.0
    fitted: str = "rms"
    baseline: str = ""
    levels: tuple[float, ...] = ()

    def __str__(self) -> str:
        against = f"against {self.reference}" if self.reference else "on held-out images: rms is a lower bound"
        against += f", implied the error if {self.baseline} is right" if self.baseline else ""
        shown = [name for name in self.table[0] if any(row[name] is not None for row in self.table)]
        lines: list[dict[str, str | float]] = [{name: _short(row[name]) for name in shown} for row in self.table]
        return f"Error of the score of {self.prior} {against}, n = {self.n}\n\n{report.markdown(lines)}\n{self.verdict}"

    def save(self, path: str | Path) -> None:
        """Write everything as JSON. Atomic: the file is complete or not there. Raises OSError with the reason."""
        path = Path(path)
        try:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n")
        except OSError as error:
            raise type(error)(f"the audit cannot be written to {path}: {error.strerror}") from error


@torch.no_grad()
def audit(
    prior: Prior,
    reference: Prior | None = None,
    images: Tensor | None = None,
    sigmas: Sequence[float] = SIGMAS,
    n: int = 256,
    seed: int = 0,
    *,
    alpha: float = 0.0,
    baseline: Prior | Sequence[Prior] = (),
    resamples: int = 1000,
    chunk_size: int = 128,
) -> Audit:
    """The error of a prior's score at each noise level, and the power of sigma that it follows.

    With a reference: e = (D - D_reference) / sigma^2, measured. Without one: bounds from the held-out loss (see
    `Audit`), of which the lower one is what the best combination of the denoised image, the noisy image, a constant and
    the denoised images of the baselines improves the loss by, its coefficients found on one half of the images and used
    on the other. A better baseline so raises the lower bound towards the error; none can raise it above. The excess of
    the loss over that of the best baseline is the error itself where that is the right prior; without any, it is taken
    over 0, the upper bound.

    prior: any; of a MaximumEntropy prior the denoiser is audited, which is that of the prior inside. reference: the
    exact prior of the images' law. images: (N, *image_shape) floating point, of which n are chosen (all if N <= n);
    None draws them from the reference. Without a reference they must not have been used in training. One noisy point
    per image and level. sigmas: at least two levels, in units of the data. n: at least 8. seed: of choice, noise and
    bootstrap. alpha: in [0, 2), with a reference only: points x0 + sigma^(1 - alpha/2) z, which is where the tempered
    score of that alpha takes a sampler. baseline: other priors to compare with, without a reference only. resamples: of
    the bootstrap over images. chunk_size: images denoised at once, which changes nothing else.

    Takes one denoiser call of every prior per image and level. Raises TypeError and ValueError for other arguments, and
    ValueError where a prior returns anything that is not finite.
    """
    baselines = list(baseline) if isinstance(baseline, list | tuple) else [baseline]
    _check_priors(prior, reference, baselines)
    if not 0 <= alpha < 2 or (alpha and reference is None):
        raise ValueError(f"alpha must lie in [0, 2), and be 0 without a reference, got {alpha}")
    sigmas = _checked_levels(sigmas)
    clean = _choose(prior, reference, images, whole("n", n, LEAST_IMAGES), whole("seed", seed, 0))
    others = baselines if reference is None else [reference]
    chunks = clean.split(whole("chunk_size", chunk_size, 1))
    measured = []
    for index, sigma in enumerate(sigmas):
        generator = _generator(seed, 1, index)
        parts = []
        for chunk in chunks:
            # Drawn item by item, so that the size of a chunk changes nothing.
            noise = torch.stack([torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in chunk])
            noise = sigma ** (1 - alpha / 2) * noise
            parts.append(_measure(prior, others, reference is not None, chunk, noise, sigma))
        measured.append([torch.cat(column) for column in zip(*parts, strict=True)])
    draws = _bootstrap(len(clean), whole("resamples", resamples, 100), _generator(seed, 2))
    baseline_names = " or ".join(dict.fromkeys(type(other).__name__ for other in baselines))
    if reference is None:
        table, fit, verdict = _bounds(sigmas, measured, draws, baseline_names)
    else:
        table, fit, verdict = _exact(sigmas, measured, draws)
    return Audit(
        table=tuple(table),
        **fit,
        verdict=verdict,
        baseline=baseline_names,
        alpha=float(alpha),
        prior=type(prior).__name__,
        reference=None if reference is None else type(reference).__name__,
        n=len(clean),
        seed=seed,
    )


def _measure(
    prior: Prior, others: Sequence[Prior], exact: bool, clean: Tensor, noise: Tensor, sigma: float
) -> tuple[Tensor, ...]:
    """Everything about some points that is needed later, one number or small matrix for each, in float64.

    With a reference: |e|^2 and |s_reference|^2. Without: |r|^2 of the residual r = x0 - D, |D - x|^2, the products
    F.T F and F.T r of the corrections F = (D - x, x, 1, D_baseline - D, ...), and of the baselines their losses and
    |D_baseline - x|^2.
    """
    x = clean + noise
    displacement, *rest = (_displacement(p, x, sigma) for p in (prior, *others))
    squares = displacement.square().sum(1)
    if exact:
        error = (displacement - rest[0]) / sigma**2
        return error.square().sum(1), rest[0].square().sum(1) / sigma**4
    # From displacements alone: x0 - D = -(sigma z) - (D - x), which small sigma does not round away.
    noise = noise.double().flatten(1)
    residual = -noise - displacement
    differences = [other - displacement for other in rest]
    features = torch.stack([displacement, x.double().flatten(1), torch.ones_like(noise), *differences], dim=2)
    losses, scores = noise[:, :0], noise[:, :0]
    if rest:
        losses = torch.stack([(noise + other).square().sum(1) for other in rest], dim=1)
        scores = torch.stack([other.square().sum(1) for other in rest], dim=1)
    products = (features.mT @ features, (features.mT @ residual[..., None])[..., 0])
    return residual.square().sum(1), squares, *products, losses, scores


def _displacement(prior: Prior, x: Tensor, sigma: float) -> Tensor:
    """D(x) - x, (B, d), computed where the prior is and in the dtype of its weights; float64 on the CPU."""
    tensor = next(chain(prior.parameters(), prior.buffers()), x)
    weights = next(prior.parameters(), x)
    y = x.to(device=tensor.device, dtype=weights.dtype if weights.is_floating_point() else x.dtype)
    displacement = prior.displacement(y, sigma).cpu().double().flatten(1)
    if not bool(displacement.isfinite().all()):
        raise ValueError(f"{type(prior).__name__} must denoise to finite images, got others at sigma = {sigma:g}")
    return displacement


def _exact(
    sigmas: Sequence[float], measured: Sequence[Sequence[Tensor]], draws: Tensor
) -> tuple[list[Row], dict[str, Any], str]:
    """Rows, the power law of the rms error and the verdict, with a reference."""
    table, errors, sizes = [], [], []
    for sigma, (squares, score) in zip(sigmas, measured, strict=True):
        rms, size = squares.mean().sqrt().item(), score.mean().sqrt().item()
        errors.append((draws @ squares).sqrt())
        sizes.append((draws @ score).sqrt())
        if size == 0:
            raise ValueError(f"reference must have a score to compare with, got zero everywhere at sigma = {sigma:g}")
        low, high = _interval(errors[-1])
        sup = squares.max().sqrt().item()
        table.append(_row(sigma=sigma, rms=rms, low=low, high=high, sup=sup, relative=rms / size))
    replicates = torch.stack(errors, dim=1)
    fit = _power_law(sigmas, _column(table, "rms"), replicates)
    decay = _power_law(sigmas, _column(table, "relative"), replicates / torch.stack(sizes, dim=1))
    return table, fit | {"fitted": "rms", "levels": tuple(sigmas)}, _verdict(fit, decay, table)


def _bounds(
    sigmas: Sequence[float], measured: Sequence[Sequence[Tensor]], draws: Tensor, baseline: str
) -> tuple[list[Row], dict[str, Any], str]:
    """Rows, the power law of the excess or of the upper bounds, and the verdict, without a reference.

    baseline: names, "" without one.
    """
    table, bounds, implied, scores = [], [], [], []
    for sigma, (loss, squares, gram, cross, losses, others) in zip(sigmas, measured, strict=True):
        gain = _improvement(gram, cross)
        rms = gain.mean().clamp_min(0).sqrt().item() / sigma**2
        low, high = _interval((draws @ gain).clamp_min(0).sqrt() / sigma**2)
        row = _row(sigma=sigma, rms=rms, low=low, high=high)
        if size := squares.mean().sqrt().item() / sigma**2:
            row["relative"] = rms / size
        row |= {"at_most": loss.mean().sqrt().item() / sigma**2, "loss": loss.mean().item()}
        bounds.append((draws @ loss).sqrt() / sigma**2)
        row |= _ends("at_most", bounds[-1])
        if baseline:
            # Pair by pair. The best one is found again in every resample, so that the choice is part of the interval.
            differences = loss[:, None] - losses
            best = int(differences.mean(0).argmax())
            excess, resampled = differences[:, best].mean().item(), (draws @ differences).amax(1)
            scores.append(others[:, best].mean().sqrt() / sigma**2)
            implied.append(resampled.clamp_min(0).sqrt() / sigma**2)
            row |= {"excess": excess, "implied": max(excess, 0.0) ** 0.5 / sigma**2}
            row |= _ends("excess", resampled) | _ends("implied", implied[-1])
        table.append(row)
    told = [i for i, row in enumerate(table) if _demonstrated(row)]
    levels = [sigmas[i] for i in told]
    if len(set(levels)) < 2:
        fit = _power_law(sigmas, _column(table, "at_most"), torch.stack(bounds, dim=1))
        return table, fit | {"fitted": "at_most", "levels": tuple(sigmas)}, _verdict_from_bounds(fit, table, baseline)
    errors, replicates = _column(table, "implied")[told], torch.stack([implied[i] for i in told], dim=1)
    sizes = torch.stack([scores[i] for i in told])
    fit = _power_law(levels, errors, replicates)
    decay = _power_law(levels, errors / sizes, replicates / sizes)
    relative = (errors / sizes)[levels.index(min(levels))].item()
    verdict = _verdict_from_excess(fit, decay | {"relative": relative}, table, baseline)
    return table, fit | {"fitted": "implied", "levels": tuple(levels)}, verdict


def _improvement(gram: Tensor, cross: Tensor) -> Tensor:
    """|r|^2 - |r - F t|^2 = 2 t.(F.T r) - t.(F.T F t) of each image, (n,), t fitted on the half it is not in."""
    gain = torch.empty(len(gram), dtype=gram.dtype)
    for half in (0, 1):
        fitted, used = slice(1 - half, None, 2), slice(half, None, 2)
        total = gram[fitted].sum(0)
        # In units of each correction, so that the cut-off of small singular values does not depend on their scales.
        scale = total.diagonal().sqrt().clamp_min(torch.finfo(gram.dtype).tiny)
        inverse = torch.linalg.pinv(total / scale / scale[:, None], rtol=1e-9, hermitian=True)
        t = (inverse @ (cross[fitted].sum(0) / scale)) / scale
        gain[used] = 2 * cross[used] @ t - torch.einsum("i,nij,j->n", t, gram[used], t)
    return gain


def _power_law(sigmas: Sequence[float], values: Tensor, replicates: Tensor) -> dict[str, Any]:
    """c and beta of values (K,) = c sigma^beta, with intervals from replicates (R, K)."""
    if not bool((values > 0).all()):
        return dict.fromkeys(("c", "c_interval", "beta", "beta_interval", "misfit"))
    # A resample of images without any error has a rate as extreme as numbers allow, which widens the interval.
    logs = torch.cat([values[None], replicates]).clamp_min(torch.finfo(values.dtype).tiny).log()
    # Variances of the logarithms by those of the values, which a resample without error leaves finite.
    weights = 1 / (replicates.var(0) / values**2).clamp_min(LEAST_STD**2)
    weights = weights / weights.sum()
    x = torch.tensor(sigmas, dtype=torch.float64).log()
    centre, means = weights @ x, logs @ weights
    slopes = logs @ (weights * (x - centre)) / (weights @ (x - centre) ** 2)
    constants = (means - slopes * centre).exp()
    misfit = (logs[0] - means[0] - slopes[0] * (x - centre)).abs().max().exp().item()
    return {
        "c": constants[0].item(),
        "c_interval": _interval(constants[1:]),
        "beta": slopes[0].item(),
        "beta_interval": _interval(slopes[1:]),
        "misfit": misfit,
    }


def _verdict(fit: dict[str, Any], decay: dict[str, Any], table: Sequence[Row]) -> str:
    """What a measured error means for the two kinds of prior. decay: the power law of the relative error."""
    if fit["beta"] is None:
        return "At some level the score has no error at all, so there is no power law to compare with the theory."
    sigma, relative = min(_rows(table, "sigma", "relative"))
    vanishes = decay["beta_interval"][0] > LEAST_DECAY
    return f"The rms error of the score follows {_law(fit)}: {_meaning(fit, vanishes, sigma, relative)} ({SOURCE})."


def _meaning(fit: dict[str, Any], vanishes: bool, sigma: float, relative: float) -> str:
    """Of a rate. vanishes: whether the error does beside the score, of which it is `relative` at the least sigma."""
    low, high = fit["beta_interval"]
    if low > 0:
        return "above 0, which a generic prior tolerates, and a maximum-entropy prior too"
    if high <= -2:
        return "not above -2, which neither a generic nor a maximum-entropy prior tolerates"
    if low <= -2:
        return "these levels do not tell whether that is above -2, which even a maximum-entropy prior needs"
    generic = "not above 0" if high <= 0 else "not shown to be above 0"
    meaning = f"{generic}, which a generic prior needs, but above -2, which a maximum-entropy prior tolerates"
    if vanishes:
        return meaning + (f" with alpha above {-fit['beta']:.2g}" if fit["beta"] < 0 else "")
    return meaning + (
        " if the same is true farther away: here the error does not vanish beside the score itself, of which "
        f"it is {relative:.2g} at sigma = {sigma:g}"
    )


def _verdict_from_excess(fit: dict[str, Any], decay: dict[str, Any], table: Sequence[Row], baseline: str) -> str:
    """What an excess at two levels or more means, if the baseline is the right prior.

    decay: the power law of implied over its score, and as "relative" that ratio at the least of these levels.
    """
    shown = [row for row in table if _demonstrated(row)]
    sigma, implied, at_most = min(_rows(shown, "sigma", "implied", "at_most"))
    vanishes = decay["beta_interval"][0] > LEAST_DECAY
    fitted = "" if len(shown) == len(table) else f", {_implied(table)},"
    return (
        f"If the baseline, {baseline}, is the right prior, the rms error of the score{fitted} follows {_law(fit)}: "
        f"{_meaning(fit, vanishes, sigma, decay['relative'])}; if it is not, the error is larger, at sigma = "
        f"{sigma:g} between {implied:.3g} and {at_most:.3g}{_beside(table, baseline)} ({SOURCE})."
    )


def _verdict_from_bounds(fit: dict[str, Any], table: Sequence[Row], baseline: str) -> str:
    """What bounds of an error mean for the two kinds of prior."""
    if fit["beta"] is None:
        return "At some level the loss is zero, so there is no power law to compare with the theory."
    low, _ = fit["beta_interval"]
    limit = "above -2" if low > -2 else "not shown to be above -2"
    shown = [f"{row['rms']:.3g} at sigma = {row['sigma']:g}" for row in table if row["low"]]
    demonstrated = f"at least {', '.join(shown)} is demonstrated" if shown else "no error is demonstrated at any level"
    if implied := _implied(table):
        demonstrated += f"; if the baseline, {baseline}, is the right prior, the error is {implied}"
    return (
        f"The rms error of the score is at most {_law(fit)}: {limit}, the limit of a maximum-entropy prior, while "
        "images alone tell neither whether it vanishes beside the score nor whether beta is above 0, which a generic "
        f"prior needs; {demonstrated}{_beside(table, baseline)} ({SOURCE})."
    )


def _demonstrated(row: Row) -> bool:
    """Whether the loss is told to be above that of a baseline."""
    return (row["excess_low"] or 0) > 0


def _implied(table: Sequence[Row]) -> str:
    """The errors that are implied where an excess is demonstrated."""
    return ", ".join(f"{row['implied']:.3g} at sigma = {row['sigma']:g}" for row in table if _demonstrated(row))


def _beside(table: Sequence[Row], baseline: str) -> str:
    """At which levels the loss is not above that of the baseline; nothing where there are none, or no baseline."""
    if not baseline:
        return ""
    ends = _rows(table, "sigma", "excess_low", "excess_high")
    better = [f"{sigma:g}" for sigma, _, high in ends if high < 0]
    alike = [f"{sigma:g}" for sigma, low, high in ends if low <= 0 <= high]
    told = (
        f"; the loss cannot be told from that of the baseline, {baseline}, at sigma = {', '.join(alike)}"
        if alike
        else ""
    )
    if better:
        right = f"{baseline}, which so is not the right prior"
        told += f"; the loss is below that of the baseline, {right}, at sigma = {', '.join(better)}"
    return told


def _law(fit: dict[str, Any]) -> str:
    low, high = fit["beta_interval"]
    return f"{fit['c']:.3g} sigma^beta with beta = {fit['beta']:.2f} (95%: {low:.2f} to {high:.2f})"


def _column(table: Sequence[Row], name: str) -> Tensor:
    return torch.tensor([row[name] for row in table], dtype=torch.float64)


def _rows(table: Sequence[Row], *names: str) -> list[list[float]]:
    """Columns that have a number in every row, row by row."""
    return torch.stack([_column(table, name) for name in names], dim=1).tolist()


def _row(**values: float) -> Row:
    names = ("sigma", "rms", "low", "high", "sup", "relative", *_with_ends("at_most"), "loss")
    return {name: values.get(name) for name in (*names, *_with_ends("excess"), *_with_ends("implied"))}


def _with_ends(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def _ends(name: str, replicates: Tensor) -> Row:
    """The interval of a column."""
    return dict(zip(_with_ends(name)[1:], _interval(replicates), strict=True))


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _bootstrap(n: int, resamples: int, generator: torch.Generator) -> Tensor:
    """Weights of n images in the mean over a resample, (resamples, n)."""
    chosen = torch.randint(n, (resamples, n), generator=generator)
    counts = torch.zeros(resamples, n, dtype=torch.float64)
    return counts.scatter_add_(1, chosen, torch.ones(1, 1, dtype=torch.float64).expand(resamples, n)) / n


def _interval(replicates: Tensor) -> tuple[float, float]:
    low, high = replicates.quantile(torch.tensor(QUANTILES, dtype=replicates.dtype)).tolist()
    return low, high


def _generator(*key: int) -> torch.Generator:
    """Random numbers that are a function of the key, (seed, what for, index)."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def _choose(prior: Prior, reference: Prior | None, images: Tensor | None, n: int, seed: int) -> Tensor:
    """The images to audit at, (at most n, *image_shape), on the CPU."""
    if images is None:
        if reference is None:
            raise ValueError("images must be given where there is no reference to draw them from, got neither")
        images = reference.sample(n, seed)
    if not isinstance(images, Tensor) or not images.is_floating_point() or images.ndim < 2:
        came = f"{images.dtype} of shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a floating-point tensor (N, *image_shape), got {came}")
    if len(images) < LEAST_IMAGES:
        raise ValueError(f"images must hold at least {LEAST_IMAGES} for an interval, got {len(images)}")
    prior.check_shape(images)
    return images[torch.randperm(len(images), generator=_generator(seed, 0))[:n].to(images.device)].cpu()


def _check_priors(prior: Prior, reference: Prior | None, baselines: Sequence[Prior]) -> None:
    others = [("baseline", other) for other in baselines]
    others += [] if reference is None else [("reference", reference)]
    for name, value in [("prior", prior), *others]:
        if not isinstance(value, Prior):
            raise TypeError(f"{name} must be a Prior, got {type(value).__name__}")
    if reference is not None and baselines:
        raise ValueError("baseline must be left out with a reference, which tells the error itself, got both")
    for name, value in others:
        if None not in (prior.image_shape, value.image_shape) and value.image_shape != prior.image_shape:
            came = f"{type(value).__name__} of images of shape {value.image_shape}"
            raise ValueError(f"{name} must be a Prior of images of shape {prior.image_shape}, as prior is, got {came}")


def _checked_levels(sigmas: Sequence[float]) -> list[float]:
    levels = [float(sigma) for sigma in sigmas]
    if len(set(levels)) < 2 or not all(math.isfinite(sigma) and sigma > 0 for sigma in levels):
        raise ValueError(f"sigmas must be at least two different noise levels, finite and above 0, got {levels}")
    return levels
