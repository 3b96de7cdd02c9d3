# %% [markdown]
# # Is the maximum-entropy posterior useful, or only more robust?
#
# The training set is skewed: 91% shirts, 1% of each of the nine other classes of Fashion-MNIST. The images to
# reconstruct are of all classes alike. What little is measured leaves the class open, and there the generic posterior
# believes its training set: shirts. The maximum-entropy posterior is uniform on the manifold of the data instead of
# following their density: is it nearer to what the posterior of a balanced training set says?
#
#     python examples/paper/usefulness.py --quick    # exact scores only, about a minute on one core
#     python examples/paper/usefulness.py            # trains a network on the skewed set first; goes on where it was
#
# Three priors know the skewed world. Of the first two the score and the posterior are exact:
#
# * images: the training images themselves (`Empirical` at bandwidth 0), what a network that memorises would learn. The
#   skew is in their number. The uniform law on a manifold of points is p_data: there is no entropy to be gained.
# * weights: as many images of each class, those of the shirts with 91 times the weight. Here the uniform law on the
#   manifold *is* the balanced prior, and whoever could sample the maximum-entropy posterior would be right.
# * network: of the design of fashion-28, trained on the skewed set.
#
# The reference is the posterior of the balanced prior: for the first two exact, for the third that of fashion-28
# itself, trained on all 60,000 images, by the same sampler. Images far from each other are separate pieces of the
# manifold, between which local moves do not mix; a sampler that anneals chooses the piece while sigma is large. So the
# score is tempered at one noise level, at all levels below sigma_ref = 1, at all levels (sigma_ref = 10), and at the
# high levels only.
#
# The dominant class was chosen on training images, as the one that balanced posteriors of a 20 x 20 box confuse most
# with others. Seeds below 1000, with the first half of the held-out images, were for trying out.

# %%
from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from deepinv.physics import Physics
from safetensors.torch import load_file, save_file
from torch import Tensor

import operators
import priors
from inverse import MMPS, AnnealedLangevin, Langevin, Posterior, Samples, figures, metrics
from inverse.files import replacing
from priors import Empirical, GaussianMixture, MaximumEntropy, checkpoint, fashion_mnist, training
from priors.base import Prior, Sigma

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import classifier
from common import machine, mean_and_error, table

SHAPE = (1, 28, 28)
DOMINANT, SHARE = 6, 0.91
CLASSES = 10
RARE_IMAGES = 66  # of each rare class that the network is trained on, beside 6,000 of the dominant one
AGAIN = ", again"
RED, BLUE, GREY = "#c1440e", "#1f5f8b", "#888888"

# %% [markdown]
# ## The skewed world, and what is to be reconstructed


# %%
@lru_cache(maxsize=2)
def images(split: str) -> tuple[Tensor, Tensor]:
    return fashion_mnist.read(split)


def chosen(rare: int, balanced: bool) -> Tensor:
    """Indices of the training images: 10 rare of each class, or the dominant one with 91 rare and the others with rare.

    The rare images of the skewed set are among those of the balanced set. The same for all seeds: it is the world.
    """
    labels, generator, parts = images("train")[1], torch.Generator().manual_seed(0), []
    for c in range(CLASSES):
        members = (labels == c).nonzero()[:, 0]
        if c != DOMINANT:
            members = members[torch.randperm(len(members), generator=generator)]
        parts.append(members[: 10 * rare if balanced else rare if c != DOMINANT else 91 * rare])
    return torch.cat(parts)


def atoms(rare: int, balanced: bool) -> tuple[Tensor, Tensor]:
    data, labels = images("train")
    index = chosen(rare, balanced)
    return data[index].float() / 255, labels[index]


PROBLEMS = {
    "large box": ("box-inpainting", {"size": 24, "noise": 0.1}),
    "large box, noisy": ("box-inpainting", {"size": 24, "noise": 0.5}),
}


@dataclass(frozen=True)
class Case:
    """Measurements y of images (B, 1, 28, 28) of known labels (B,); hidden: the pixels that were not measured."""

    name: str
    seed: int
    physics: Physics
    y: Tensor
    truth: Tensor
    labels: Tensor

    @property
    def hidden(self) -> Tensor:
        mask = operators.measured(self.physics)
        return torch.ones(SHAPE, dtype=torch.bool) if mask is None else ~mask.bool().expand(1, *SHAPE)[0]


def case(problem: str, seed: int) -> Case:
    """A held-out image of each class: seeds below 1000, for tuning, have the first half of them, others the second."""
    data, labels = images("held-out")
    half = slice(0, 5000) if seed < 1000 else slice(5000, None)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(5000, generator=generator)
    members = torch.cat([order[labels[half][order] == c][:1] for c in range(CLASSES)])
    truth = data[half][members].float() / 255
    operator, options = PROBLEMS[problem]
    physics = operators.create(operator, SHAPE, seed=seed, **options)
    with torch.no_grad():
        return Case(problem, seed, physics, physics(truth), truth, labels[half][members])


# %% [markdown]
# ## Methods
#
# All have about 200 calls of the denoiser for a draw, where a vector-Jacobian product counts as one, but for annealed
# Langevin dynamics, which has 300 and would need more: its draws from networks are often no clothes with fewer.


# %%
class TemperedAbove(MaximumEntropy):
    """Tempered above the noise level `until`, where a chain chooses its class, and the plain score below.

    What is drawn at the end are images of the data's density, so that the network is asked where it was trained.
    """

    def __init__(self, prior: Prior, until: float, **options: float) -> None:
        super().__init__(prior, **options)
        self.until = until

    def stiffness(self, sigma: float) -> float:
        return super().stiffness(sigma) if sigma > self.until else self.prior.stiffness(sigma)

    def evaluate(self, x: Tensor, sigma: Sigma, noise: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        return super().evaluate(x, sigma, noise) if float(sigma) > self.until else self.prior.evaluate(x, sigma)


def kept(scores: str) -> list[str]:
    return [method for method in METHODS if method not in LEFT_OUT[scores]]


def generic(prior: Prior) -> Prior:
    return prior


def tempered(alpha: float, sigma_ref: float = 1.0) -> Callable[[Prior], Prior]:
    return lambda prior: MaximumEntropy(prior, alpha=alpha, sigma_ref=sigma_ref)


def cancelled(prior: Prior) -> Prior:
    return MaximumEntropy(prior, method="cancelled")


def tempered_above(until: float, alpha: float, sigma_ref: float) -> Callable[[Prior], Prior]:
    return lambda prior: TemperedAbove(prior, until, alpha=alpha, sigma_ref=sigma_ref)


def langevin(sigma: float, evaluations: int = 1) -> Langevin:
    """At noise levels with a cloud of the same thickness, about 0.1, for every exponent."""
    return Langevin(steps=50 + 150 // evaluations, anneal_steps=50, sigma=sigma, step_size=1.0)


# From where classes can hardly be told apart to below the noise of the measurement: there its steps are needed.
ANNEALED = AnnealedLangevin(steps=300, sigma_max=3.0, sigma_min=0.05)

METHODS = {
    "mmps": (generic, MMPS(steps=50, iterations=3, eta=1.0)),
    "annealed": (generic, ANNEALED),
    "langevin": (generic, langevin(0.1)),
    "langevin, tempered 0.5": (tempered(0.5), langevin(0.05)),
    "langevin, tempered 1": (tempered(1.0), langevin(0.02)),
    "langevin, cancelled": (cancelled, langevin(0.1, 3)),
    "annealed, tempered 1": (tempered(1.0), ANNEALED),
    "annealed, tempered 0.5 at all levels": (tempered(0.5, 10.0), ANNEALED),
    "annealed, tempered 1 at all levels": (tempered(1.0, 10.0), ANNEALED),
    "annealed, tempered 0.5 at high levels": (tempered_above(0.5, 0.5, 10.0), ANNEALED),
}
LEFT_OUT = {  # for their cost
    "exact": ("langevin, tempered 0.5", "annealed, tempered 0.5 at all levels"),
    "network": ("annealed, tempered 1 at all levels",),
}
SAME_SAMPLER = {name: name.split(",")[0] for name, (version, _) in METHODS.items() if version is not generic}


def drawn(args: argparse.Namespace, name: str, prior: Prior, method: str, given: Case, n: int) -> Samples:
    """Draws of the posterior, (n, B, 1, 28, 28): read where the same were made before, else made and written.

    method: "exact" or one of METHODS, with AGAIN at its end for other random numbers.
    """
    version, sampler = METHODS.get(method.removesuffix(AGAIN), (generic, None))
    settings = [name, method, repr(sampler), given.name, n, args.rare, args.training_images]
    digest = hashlib.sha256(json.dumps(settings).encode() + given.y.numpy().tobytes()).hexdigest()[:12]
    path = (
        args.out
        / "cells"
        / f"{name}-{given.name}-{method}-{given.seed}-{digest}.safetensors".replace(",", "").replace(" ", "-")
    )
    if path.exists():
        return Samples.load(path)
    posterior = Posterior(version(prior), given.physics, given.y)
    seed = given.seed + 10**6 * method.endswith(AGAIN)
    if sampler is None:
        result = Samples(posterior.exact().sample(n, seed), 0, 0.0, method, {}, seed, given.y)
    else:
        result = sampler.sample(posterior, n, seed=seed, progress=sys.stderr.isatty())
    half = {field.name: getattr(result, field.name) for field in fields(Samples)} | {"x": result.x.half()}
    path.parent.mkdir(parents=True, exist_ok=True)
    Samples(**half).save(path)
    print(f"{name}, {given.name}, {method}, seed {given.seed}: {result.seconds:.0f} s", file=sys.stderr, flush=True)
    return Samples.load(path)


# %% [markdown]
# ## What is measured
#
# The class of a draw is that of the nearest of the prior's images, or what a classifier says. For each measurement the
# frequencies of the classes among the draws are compared with those of the reference (total variation) and with the
# true class (is it the most frequent one; Brier score; log score). Coverage is that of 90% intervals of the pixels that
# were not measured, of which 12 draws of a right posterior have 11/13 = 0.85.


# %%
def nearest(data: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    flat = data.flatten(1)
    return lambda x: labels[torch.cdist(x.flatten(1), flat).argmin(1)]


def trained_classifier(args: argparse.Namespace) -> Callable[[Tensor], Tensor]:
    model, path = classifier.network(), args.out / "classifier.safetensors"
    if not path.exists():
        data, labels = images("train")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(classifier.train(data.float() / 255, labels).state_dict(), path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
    model.load_state_dict(load_file(path))
    return lambda x: classifier.classify(model.eval(), x)


def frequencies(x: Tensor, classify: Callable[[Tensor], Tensor]) -> Tensor:
    """Shares of the classes among the draws of each measurement, (B, 10). x: (n, B, 1, 28, 28)."""
    found = torch.stack([classify(draws) for draws in x])
    return torch.nn.functional.one_hot(found, CLASSES).double().mean(0)


def scores(frequency: Tensor, reference: Tensor, labels: Tensor, n: int) -> dict[str, Tensor]:
    """Of class frequencies (B, 10): one number for each measurement, (B,)."""
    true = torch.nn.functional.one_hot(labels, CLASSES)
    top = frequency == frequency.amax(1, keepdim=True)
    chance = (frequency * (1 - frequency)).sum(1) / (n - 1)  # what n draws add to the Brier score on average
    smooth = (n * frequency + 0.5) / (n + 0.5 * CLASSES)
    return {
        "tv": (frequency - reference).abs().sum(1) / 2,
        "dominant": frequency[:, DOMINANT],
        "accuracy": (top * true).sum(1) / top.sum(1),
        "brier": (frequency - true).square().sum(1) - chance,
        "log": (smooth * true).sum(1).log(),
    }


def quality(x: Tensor, given: Case) -> dict[str, Tensor]:
    hidden = given.hidden
    return {
        "psnr": metrics.psnr(x.mean(0), given.truth),
        "coverage": metrics.coverage(x[:, :, hidden], given.truth[:, hidden], grid=1 / 255),
        "residual": metrics.residual_ratio(x, given.y, given.physics).mean(0),
    }


def measure(args: argparse.Namespace, cells: list[tuple], reference: str, cases: list[Case], n: int) -> dict:
    """Scores of every cell (name, label, prior, method, classify) on all cases, for each measurement."""
    found: dict[str, dict[str, list]] = {}
    for given in cases:
        base = None
        for name, label, prior, method, classify in cells:
            x = drawn(args, name, prior, method, given, n).x.float()
            frequency = frequencies(x, classify)
            base = frequency if label == reference else base
            values = scores(frequency, base, given.labels, n) | quality(x, given)
            add(found, label, values, given)
            if method == "mmps" and name != "balanced":
                add(
                    found,
                    f"{label}, draws reweighted by class",
                    scores(reweighted(frequency), base, given.labels, n),
                    given,
                )
    return found


def reweighted(frequency: Tensor) -> Tensor:
    """Importance weights for the classes: frequencies over those of the training set, normalised."""
    share = torch.full((CLASSES,), (1 - SHARE) / (CLASSES - 1), dtype=frequency.dtype)
    share[DOMINANT] = SHARE
    return (frequency / share) / (frequency / share).sum(1, keepdim=True)


def add(found: dict, label: str, values: dict[str, Tensor], given: Case) -> None:
    row = found.setdefault(label, {"label": [], **{key: [] for key in values}})
    row["label"] += given.labels.tolist()
    for key, value in values.items():
        row[key] += [round(float(v), 5) for v in value]


def group(row: dict[str, list], key: str, rare: bool) -> list[float]:
    return [v for v, label in zip(row[key], row["label"], strict=True) if (label != DOMINANT) == rare]


def summary(found: dict) -> str:
    """Means and standard errors over the measurements."""

    def shown(row: dict, key: str, rare: bool, digits: int = 2) -> str:
        return "{:.{d}f} ± {:.{d}f}".format(*mean_and_error(group(row, key, rare)), d=digits) if key in row else ""

    columns = [
        ("TV to reference, rare", "tv", True, 2),
        ("TV, dominant", "tv", False, 2),
        ("dominant's share, rare", "dominant", True, 2),
        ("accuracy, rare", "accuracy", True, 2),
        ("accuracy, dominant", "accuracy", False, 2),
        ("Brier, rare", "brier", True, 2),
        ("log score, rare", "log", True, 2),
        ("coverage, rare", "coverage", True, 2),
        ("PSNR, rare", "psnr", True, 1),
        ("residual, rare", "residual", True, 2),
    ]
    rows = [[name, *(shown(row, *column[1:]) for column in columns)] for name, row in found.items()]
    return table(["posterior", *(column[0] for column in columns)], rows)


def paired(found: dict, one: str, other: str, key: str, rare: bool) -> tuple[float, float]:
    """Mean over the measurements of one less other, and its standard error."""
    pairs = zip(group(found[one], key, rare), group(found[other], key, rare), strict=True)
    return mean_and_error([a - b for a, b in pairs])


# %% [markdown]
# ## Exact scores


# %%
def exact_cells(rare: int, methods: Sequence[str]) -> list[tuple]:
    """Priors whose score is exact: the images as they are, all classes with weights, and the balanced reference."""
    few, few_labels = atoms(rare, balanced=False)
    many, many_labels = atoms(rare, balanced=True)
    shares = torch.full((CLASSES,), (1 - SHARE) / (CLASSES - 1))
    shares[DOMINANT] = SHARE
    balanced, skewed = Empirical(many, 0.0), Empirical(few, 0.0)
    weighted = GaussianMixture(many, torch.zeros(len(many)), shares[many_labels])
    evened = GaussianMixture(few, torch.zeros(len(few)), 1 / few_labels.bincount()[few_labels])
    of_few, of_many = nearest(few, few_labels), nearest(many, many_labels)
    cells = [
        ("balanced", f"balanced, {m}", balanced, m, of_many) for m in ("exact", "exact" + AGAIN, "mmps", "annealed")
    ]
    cells += [("evened", "images, exact, reweighted by class", evened, "exact", of_few)]
    cells += [("images", f"images, {m}", skewed, m, of_few) for m in ("exact", *methods)]
    return cells + [("weights", f"weights, {m}", weighted, m, of_many) for m in ("exact", *methods)]


def network_cells(args: argparse.Namespace) -> list[tuple]:
    """The network of the skewed set, and fashion-28, which was trained on all images, as the reference."""
    skewed, classify = trained(args), trained_classifier(args)
    balanced = priors.load("fashion-28")
    same = ("mmps", "mmps" + AGAIN, "annealed")
    cells = [("balanced", f"balanced, {method}", balanced, method, classify) for method in same]
    return cells + [("network", f"network, {method}", skewed, method, classify) for method in kept("network")]


def trained(args: argparse.Namespace) -> Prior:
    """The network, trained on the skewed set in the folder `network`, where an interrupted run goes on."""
    out, index = args.out / "network", chosen(RARE_IMAGES, balanced=False)
    run = training.fit(
        images("train")[0][index], images("held-out")[0][:500], out, training.Schedule(images=args.training_images)
    )
    if run.stopped:
        raise KeyboardInterrupt
    return checkpoint.averaged_prior(out / training.CHECKPOINT)[0]


# %% [markdown]
# ## What it comes to


# %%
def verdict(found: dict, world: str) -> list[str]:
    """The maximum-entropy posterior beside the generic one of the same sampler, on images of the rare classes."""
    lines, best = [], None
    for method, plain in SAME_SAMPLER.items():
        one, other = f"{world}, {method}", f"{world}, {plain}"
        if one not in found:
            continue
        changes = {key: paired(found, one, other, key, rare=True) for key in ("tv", "accuracy", "coverage", "psnr")}
        gained = changes["tv"][0] < -2 * changes["tv"][1] and changes["accuracy"][0] > 2 * changes["accuracy"][1]
        lost = changes["psnr"][0] < -1 or changes["psnr"][0] < -2 * changes["psnr"][1]
        told = ", ".join(f"{key} {value:+.2f} ± {error:.2f}" for key, (value, error) in changes.items())
        lines.append(f"{one}, less {plain}: {told}: " + ("useful" if gained and not lost else "not useful"))
        best = best or (gained and not lost)
    word = "USEFUL in at least one version" if best else "NOT USEFUL, at best more robust"
    return [*lines, f"{world}: for images of the rare classes the maximum-entropy posterior is {word}"]


# %% [markdown]
# ## Figure


# %%
DRAWS = 3
PICTURED = (0, 3, 8)  # T-shirt, dress, bag


def pictures(axes: np.ndarray, given: Case, posteriors: dict[str, tuple[Tensor, Tensor]], shown: Sequence[int]) -> None:
    """A line for each image: truth, measurement, draws of each posterior (n, B, 1, 28, 28) with classes (n, B)."""
    for line, b in zip(axes, shown, strict=True):
        panels = [(given.truth[b, 0], False), (figures.picture(given.y[b], SHAPE, noisy=True), False)]
        for x, classes in posteriors.values():
            panels += [(x[i, b, 0].clamp(0, 1), bool(classes[i, b] == DOMINANT)) for i in range(DRAWS)]
        for axis, (picture, frame) in zip(line, panels, strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set(color=RED if frame else GREY, linewidth=2.5 if frame else 0.5)
        line[0].set_ylabel(fashion_mnist.CLASSES[given.labels[b]], fontsize=10)
    for title, column in [("truth", 0), ("measured", 1)]:
        axes[0, column].set_title(title, fontsize=10)
    for i, name in enumerate(posteriors):
        axes[0, 2 + DRAWS * i + DRAWS // 2].set_title(name, fontsize=10)


def bars(axis: plt.Axes, found: dict, key: str, names: Sequence[str], groups: Sequence[tuple[bool, str, str]]) -> None:
    """Mean and standard error of a score for each posterior and group of images: rare or not, colour, label."""
    places, width = np.arange(len(names)), 0.8 / len(groups)
    for i, (rare, colour, label) in enumerate(groups):
        values = np.array([mean_and_error(group(found[name], key, rare)) for name in names])
        shift = (i - (len(groups) - 1) / 2) * width
        axis.barh(places + shift, values[:, 0], 0.92 * width, color=colour, alpha=0.75, label=label)
        axis.errorbar(values[:, 0], places + shift, xerr=values[:, 1], fmt="none", ecolor="black", elinewidth=0.8)
    axis.set_yticks(places, names, fontsize=9)
    axis.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6))
    axis.spines[["top", "right"]].set_visible(False)


def figure(
    args: argparse.Namespace, found: dict, cells: list[tuple], given: Case, shown: dict[str, str], file: str
) -> None:
    """Draws of three images of rare classes; total variation and the share of the dominant class for all posteriors."""
    by_label = {label: (name, prior, method, classify) for name, label, prior, method, classify in cells}
    posteriors = {}
    for title, label in shown.items():
        name, prior, method, classify = by_label[label]
        x = drawn(args, name, prior, method, given, args.n).x.float()
        posteriors[title] = (x, torch.stack([classify(draws) for draws in x]))
    page = plt.figure(figsize=(12, 8.6), layout="constrained")
    above, below = page.subfigures(2, 1, height_ratios=[0.8, 1], hspace=0.03)
    rows = [int((given.labels == c).nonzero()[0]) for c in PICTURED]
    axes = above.subplots(len(rows), 2 + DRAWS * len(shown), gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    pictures(axes, given, posteriors, rows)
    above.supxlabel(
        "three draws of each posterior; a red frame: taken for a shirt, 91% of the training set", fontsize=10
    )
    reference = cells[0][1]
    names = [name for name in found if not name.startswith(reference)]
    left, right = below.subplots(1, 2, sharey=True)
    bars(left, found, "tv", names, [(True, BLUE, "images of the rare classes"), (False, RED, "of the dominant class")])
    floor = mean_and_error(found[reference + AGAIN]["tv"])[0]
    left.axvline(floor, color="black", linestyle=":", label="the reference against itself")
    left.set_xlabel("total variation to the class frequencies of the balanced posterior")
    left.figure.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower left", ncols=3)
    bars(right, found, "dominant", names, [(True, BLUE, "")])
    share = mean_and_error(group(found[reference], "dominant", rare=True))[0]
    right.axvline(share, color="black", linestyle="--", label="the balanced posterior")
    right.set_xlabel("share of draws taken for shirts, images of the rare classes")
    right.legend(frameon=False, fontsize=9, loc="lower right")
    with replacing(args.out / file) as temporary:
        page.savefig(temporary, format="png", dpi=160)
    plt.close(page)


# %%
SHOWN = {
    "balanced": "balanced, mmps",
    "generic": "{world}, mmps",
    "maximum entropy, cancelled": "{world}, langevin, cancelled",
    "maximum entropy, annealed": "{world}, annealed, tempered 0.5 at high levels",
}


def experiment(args: argparse.Namespace, problem: str, cells: list[tuple], worlds: Sequence[str], seeds: int) -> dict:
    """Tables, verdict and figure of one problem."""
    cases = [case(problem, args.first_seed + i) for i in range(seeds)]
    reference = cells[0][1]
    found = measure(args, cells, reference, cases, args.n)
    lines = [line for world in worlds for line in verdict(found, world)]
    count = len(cases) * (CLASSES - 1)
    print(f"\n## {problem}: {', '.join(worlds)}; reference: {reference}\n\n{count} images of rare classes, ", end="")
    print(f"{len(cases)} of the dominant one, {args.n} draws each\n\n{summary(found)}\n")
    print("\n".join(lines), flush=True)
    shown = {title: label.format(world=worlds[-1]) for title, label in SHOWN.items()}
    figure(args, found, cells, cases[0], shown, "exact.png" if len(worlds) > 1 else "network.png")
    return {"reference": reference, "rows": found, "verdict": lines}


def main() -> int:
    parser = argparse.ArgumentParser(description="Is the maximum-entropy posterior of a skewed prior useful?")
    parser.add_argument("--quick", action="store_true", help="exact scores only, one measurement of each class")
    parser.add_argument("--out", type=Path, default=Path("results/usefulness"))
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--seeds", type=int, help="of which each has one image of each class (default: 2; quick: 1)")
    parser.add_argument("--network-seeds", type=int, help="as --seeds, for the network (default: as many)")
    parser.add_argument(
        "--training-images", type=int, default=200_000, help="that the network sees (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, help="processor threads (default: torch's own choice)")
    args = parser.parse_args()
    for name, value in (("--seeds", args.seeds), ("--network-seeds", args.network_seeds)):
        if value is not None and value < 1:
            parser.error(f"{name} must be at least 1, got {value}")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.seeds, args.rare, args.n = args.seeds or (1 if args.quick else 2), 6, 12
    args.network_seeds = args.network_seeds or args.seeds
    results = {}
    try:
        cells = exact_cells(args.rare, kept("exact"))
        results["exact scores"] = experiment(args, "large box, noisy", cells, ("images", "weights"), args.seeds)
        if not args.quick:
            results["network"] = experiment(args, "large box", network_cells(args), ("network",), args.network_seeds)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    settings = {
        key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items() if key != "out"
    }
    text = json.dumps({"machine": machine(), "settings": settings, **results}, indent=1) + "\n"
    with replacing(args.out / "usefulness.json") as temporary:
        temporary.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
