# %% [markdown]
# # Predictor-corrector sampling with a tempered corrector, and classifier-free guidance
#
# Li et al. 2025 (arXiv 2509.24912), Sec. 7.2, put a tempered corrector into the predictor-corrector sampler of Stable
# Diffusion, where only the unconditional term of classifier-free guidance is tempered, and compare by CLIP. Here the
# same sampler draws from the shipped networks, which a classifier can judge: do the draws look like clothes (quality),
# and does tempering make them more various (diversity)?
#
#     python examples/paper/guidance.py --quick     # 5 corrector steps, 20 draws of a setting and seed
#     python examples/paper/guidance.py             # 5 to 30 corrector steps; goes on where it was
#
# Every setting has as many denoiser calls as the others in its column: those without a corrector take more predictor
# steps. Song et al. 2021 is their corrector's step size, r = 0.16; all others step by the thickness of the cloud.
#
# In the space of the classifier's last hidden layer, against 5,000 held-out images: the Frechet distance in its 16
# leading principal components, and the mean distance of a draw to the nearest image (quality: is it near the data, be
# it as rare as it may). Diversity is the entropy of the classes (at most log 10 = 2.303), and, of guided draws, the
# mean distance between two of one class. The floor is as many of the other 5,000 held-out images.
#
# Unconditional draws, and the unconditional term of guided ones, are of fashion-28; the conditional term is that of
# fashion-28-conditional.

# %%
from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import classifier
from common import mean_and_error, show, table, write

import priors
from inverse import PredictorCorrector
from inverse.files import replacing
from priors import GaussianMixture, Guided, Preconditioned, Prior, fashion_mnist

STEPS = 10
GUIDANCE = 3.0
COMPONENTS = 16
SHAPE = (1, 28, 28)
CLASSES = len(fashion_mnist.CLASSES)
SONG, LATE = "plain, Song et al. 2021", "alpha = 1 below 0.05"
ALPHAS = (0.0, 0.5, 1.0, 1.5)
TEMPERED = {f"alpha = {alpha:g}": PredictorCorrector(alpha=alpha) for alpha in ALPHAS}
UNCONDITIONAL = {
    "DDIM alone": PredictorCorrector(predictor="ddim", corrector_steps=0),
    "DDPM alone": PredictorCorrector(corrector_steps=0),
    SONG: PredictorCorrector(alpha=0.0, snr=0.16),
    **TEMPERED,
    LATE: PredictorCorrector(alpha=1.0, sigma_ref=0.05),
}
GUIDED = {"DDPM alone": UNCONDITIONAL["DDPM alone"], **TEMPERED}
QUICK = ("DDPM alone", SONG, "alpha = 0", "alpha = 0.5", "alpha = 1")
MEASURES = {
    False: ("frechet", "nearest", "roughness", "entropy", "distance"),
    True: ("frechet", "nearest", "accuracy", "distance"),
}
TITLES = {
    "frechet": "Frechet distance",
    "nearest": "to the nearest image",
    "roughness": "roughness",
    "entropy": "class entropy",
    "distance": "between two draws",
    "accuracy": "right class",
}


# %% [markdown]
# ## Draws: a cell is one setting with one seed, in a file of its own


# %%
def sampler_of(sampler: PredictorCorrector, corrector_steps: int, steps: int) -> PredictorCorrector:
    """With that many corrector steps, or, where it has none, with as many denoiser calls."""
    if sampler.corrector_steps == 0:
        return replace(sampler, steps=steps * (1 + corrector_steps))
    return replace(sampler, steps=steps, corrector_steps=corrector_steps)


def cells(args: argparse.Namespace) -> Iterator[dict]:
    """What determines each cell, the cheap ones first."""
    for k in args.corrector_steps:
        for seed in args.seeds:
            for guided, rows in ((False, UNCONDITIONAL), (True, GUIDED)):
                for name, sampler in rows.items():
                    if args.quick and name not in QUICK:
                        continue
                    chosen = asdict(sampler_of(sampler, k, args.steps))
                    yield {"guided": guided, "name": name, "k": k, "seed": seed, "n": args.n, "sampler": chosen}


def path_of(cell: dict, args: argparse.Namespace) -> Path:
    used = [args.weights, GUIDANCE] if cell["guided"] else args.weights["fashion-28"]
    digest = hashlib.sha256(repr([sorted(cell.items()), used]).encode()).hexdigest()
    return args.out / "cells" / f"{digest[:20]}.safetensors"


def calls(cell: dict) -> int:
    """Calls of a network that a cell takes."""
    return cell["n"] * (1 + cell["guided"]) * cell["sampler"]["steps"] * (1 + cell["sampler"]["corrector_steps"])


def draw(cell: dict, networks: dict[str, Preconditioned]) -> Tensor:
    """The images of a cell, (n, 1, 28, 28); guided, the i-th is of class i modulo 10."""
    sampler = PredictorCorrector(**cell["sampler"])
    prior: Prior = networks["fashion-28"]
    if cell["guided"]:
        labels = torch.arange(cell["n"]) % CLASSES
        prior = Guided(prior, networks["fashion-28-conditional"].given(labels), GUIDANCE)
    return sampler.sample_prior(prior, cell["n"], seed=cell["seed"], chunk_size=cell["n"])


def load(path: Path) -> Tensor | None:
    """Images of a cell that was drawn before; a file that cannot be read is drawn again."""
    try:
        return load_file(path)["images"].float() / 255
    except (FileNotFoundError, SafetensorError, KeyError):
        return None


def save(images: Tensor, path: Path) -> None:
    with replacing(path) as temporary:
        save_file({"images": (255 * images.clamp(0, 1)).round().to(torch.uint8)}, temporary)


# %% [markdown]
# ## The judge


# %%
def judge(training: tuple[Tensor, Tensor], args: argparse.Namespace) -> nn.Sequential:
    """The classifier, trained once for a results folder."""
    path = args.out / "classifier.safetensors"
    about = {"images": str(args.judge_images), "epochs": str(args.judge_epochs), "seed": str(args.seeds[0])}
    if path.exists():
        with safe_open(path, "pt") as file:
            if file.metadata() == about:
                model = classifier.network()
                model.load_state_dict(load_file(path))
                return model.eval()
    images, labels = (part[: args.judge_images] for part in training)
    model = classifier.train(images.float() / 255, labels, args.judge_epochs, args.seeds[0])
    with replacing(path) as temporary:
        save_file(model.state_dict(), temporary, about)
    return model


class Judge:
    """Quality and diversity of images, against reference images and in the eyes of a classifier."""

    def __init__(self, model: nn.Sequential, reference: Tensor) -> None:
        self.model = model
        self.reference, _ = self.look(reference)
        centred = self.reference - self.reference.mean(0)
        self.components = torch.linalg.eigh(centred.T @ centred)[1][:, -COMPONENTS:]

    @torch.no_grad()
    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, 128) in float64 and the likeliest class (n,)."""
        features = torch.cat([self.model[:-2](part) for part in images.split(500)])
        return features.double(), self.model[-2:](features).argmax(1)

    def __call__(self, images: Tensor, guided: bool) -> dict[str, float]:
        features, found = self.look(images)
        asked = torch.arange(len(images)) % CLASSES
        shares = torch.bincount(found, minlength=CLASSES).double() / len(images)
        distances = torch.cdist(features, features)
        pairs = ~torch.eye(len(images), dtype=torch.bool)
        if guided:
            pairs &= asked[:, None] == asked
        values = {
            "frechet": frechet(features @ self.components, self.reference @ self.components),
            "nearest": float(torch.cdist(features, self.reference).min(1).values.mean()),
            "roughness": roughness(images),
            "entropy": float(-torch.special.xlogy(shares, shares).sum()),
            "distance": float(distances[pairs].mean()),
            "accuracy": float((found == asked).double().mean()),
        }
        return {name: values[name] for name in MEASURES[guided]}


def frechet(a: Tensor, b: Tensor) -> float:
    """|difference of means|^2 + tr(A + B - 2 (A B)^(1/2)) of two sets of features (n, d), A and B their covariances."""
    covariances = torch.cov(a.T), torch.cov(b.T)
    # A B is similar to a positive semi-definite matrix: the root's trace is the sum of the eigenvalues' roots.
    roots = torch.linalg.eigvals(covariances[0] @ covariances[1]).real.clamp(min=0).sqrt()
    traces = sum(float(covariance.trace()) for covariance in covariances)
    return float((a.mean(0) - b.mean(0)).square().sum()) + traces - 2 * float(roots.sum())


def roughness(images: Tensor) -> float:
    """Mean squared difference of neighbouring pixels in a row."""
    return float((images[..., 1:] - images[..., :-1]).square().mean())


def floor(guided: bool, held_out: tuple[Tensor, Tensor], n: int, seed: int) -> Tensor:
    """n held-out images, chosen by the seed; guided, as many of each class, in the order of the draws."""
    images, labels = held_out
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    if not guided:
        return images[order[:n]]
    of_class = [iter(order[labels[order] == c].tolist()) for c in range(CLASSES)]
    return images[[next(of_class[i % CLASSES]) for i in range(n)]]


# %% [markdown]
# ## The same without a network
#
# What tempering does may be a fault of the network, which is asked at points where it was not trained, or of the idea.
# A Gaussian law with the mean and the covariance of the images has an exact score everywhere, and no thin manifold, but
# variances of all sizes, as pictures have: how rough do its draws become?


# %%
def heated(training: Tensor, network: Preconditioned, args: argparse.Namespace) -> list[dict]:
    """Roughness of draws of that Gaussian with the settings of the network, for every alpha."""
    pixels = training[:20_000].float().flatten(1) / 255
    covariance = torch.cov(pixels.T) + 1e-6 * torch.eye(pixels.shape[1])
    law = GaussianMixture(pixels.mean(0).reshape(1, *SHAPE), covariance[None], torch.ones(1))
    n = 5 * args.n
    rows = [{"alpha": "exact draws", "k": "", "roughness": [roughness(law.sample(n, seed)) for seed in args.seeds]}]
    for k in args.corrector_steps:
        for alpha in ALPHAS:
            sampler = sampler_of(PredictorCorrector(alpha=alpha), k, args.steps).resolve(network, SHAPE)
            found = [roughness(sampler.sample_prior(law, n, seed=seed, chunk_size=n)) for seed in args.seeds]
            rows.append({"alpha": alpha, "k": k, "roughness": found})
    return rows


# %%
def main() -> int:
    parser = argparse.ArgumentParser(description="Predictor-corrector sampling with a tempered corrector.")
    parser.add_argument("--quick", action="store_true", help="5 corrector steps, fewer settings, 20 draws each")
    parser.add_argument("--out", type=Path, default=Path("results/guidance"))
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--corrector-steps", type=int, nargs="+", help="some of them (default: 5 10 20 30)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.seeds = range(args.first_seed, args.first_seed + 3)
    args.corrector_steps = args.corrector_steps or ((5,) if args.quick else (5, 10, 20, 30))
    args.n, args.steps = (20, 6) if args.quick else (40, STEPS)
    args.judge_images, args.judge_epochs = (12_000, 1) if args.quick else (60_000, 2)
    networks = {name: priors.load(name) for name in ("fashion-28", "fashion-28-conditional")}
    told = ("seed", "steps", "images_seen", "training_seconds")
    args.weights = {name: {key: prior.about[key] for key in told} for name, prior in networks.items()}
    (args.out / "cells").mkdir(parents=True, exist_ok=True)

    missing = [cell for cell in cells(args) if load(path_of(cell, args)) is None]
    try:
        with tqdm(total=sum(map(calls, missing)), desc="draws", unit="call", unit_scale=True) as bar:
            for cell in missing:
                save(draw(cell, networks), path_of(cell, args))
                bar.update(calls(cell))
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
    return finish(networks["fashion-28"], args)


# %% [markdown]
# ## What came out


# %%
def finish(network: Preconditioned, args: argparse.Namespace) -> int:
    """Tables, JSON and figure of the cells that are there."""
    training = fashion_mnist.read("train")
    images, labels = fashion_mnist.read("held-out")
    images = images.float() / 255
    see = Judge(judge(training, args), images[:5000])
    accuracy = float((see.look(images[5000:])[1] == labels[5000:]).double().mean())
    floors = {guided: [see(floor(guided, (images[5000:], labels[5000:]), args.n, s), guided) for s in args.seeds]
              for guided in (False, True)}  # fmt: skip
    rows: dict[tuple, dict] = {}
    strips: dict[tuple, Tensor] = {}
    for cell in cells(args):
        drawn = load(path_of(cell, args))
        if drawn is None:
            continue
        key = cell["guided"], cell["name"], cell["k"]
        strips.setdefault(key, drawn[:CLASSES])
        row = rows.setdefault(key, {name: cell[name] for name in ("guided", "name", "k", "sampler")} | {"seeds": []})
        row["seeds"].append({"seed": cell["seed"], **see(drawn, cell["guided"])})
    for guided in (False, True):
        report(guided, [row for row in rows.values() if row["guided"] == guided], floors[guided], args)
    heat = heated(training[0], network, args)
    print(f"\nGaussian law with the mean and covariance of the images, exact score, {5 * args.n} draws\n")
    lines = [[str(row["alpha"]), str(row["k"]), show(row["roughness"], 4)] for row in heat]
    print(table(["alpha", "corrector steps", "roughness"], lines))
    complete = sum(len(row["seeds"]) for row in rows.values())
    result = {
        "state": {"cells": complete, "of": len(list(cells(args)))},
        "networks": args.weights,
        "seeds": list(args.seeds),
        "n": args.n,
        "guidance": GUIDANCE,
        "classifier_accuracy": accuracy,
        "floors": {"unconditional": floors[False], "guided": floors[True]},
        "halves": see(images[5000:], False),
        "rows": list(rows.values()),
        "gaussian": heat,
    }
    write(args.out / "guidance.json", result)
    with replacing(args.out / "guidance.png") as temporary:
        picture(rows, strips, floors, images[5000:], labels[5000:]).savefig(temporary, format="png", dpi=150)
    return 0 if complete == result["state"]["of"] else 130


def report(guided: bool, rows: list[dict], floors: list[dict], args: argparse.Namespace) -> None:
    """A table: mean +- standard error over the seeds."""
    measures = MEASURES[guided]
    lines = [["held-out images", "", *(show([one[m] for one in floors]) for m in measures)]]
    for row in rows:
        values = [show([one[m] for one in row["seeds"]]) for m in measures]
        lines.append([row["name"], str(row["k"]), *values])
    kind = f"guided, w = {GUIDANCE:g}" if guided else "unconditional"
    seeds = f"seeds {args.seeds[0]} to {args.seeds[-1]}"
    print(f"\n{kind}; {seeds}, {args.n} draws each\n")
    print(table(["sampler", "corrector steps", *(TITLES[m] for m in measures)], lines))


# %%
INK, GREY = "#222222", "#9a9a9a"
COLOURS = ("#c1440e", "#1f5f8b", "#5b8c2a", "#7b4fa3")


def picture(rows: dict, strips: dict, floors: dict, images: Tensor, labels: Tensor) -> plt.Figure:
    """Draws of some settings on the left; quality and diversity against alpha on the right."""
    figure = plt.figure(figsize=(13.5, 7.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.05, 1))
    halves = left.subfigures(2, 1)
    for half, guided, title in zip(
        halves, (False, True), ("unconditional draws", f"one of each class, guidance w = {GUIDANCE:g}"), strict=True
    ):
        k = max((key[2] for key in strips if key[0] == guided and key[2] <= 10), default=0)
        shown = [key for key in strips if key[0] == guided and key[2] == k and key[1] not in ("DDIM alone", SONG)]
        real = floor(guided, (images, labels), CLASSES, 1000)
        mosaic(
            half,
            [("held-out images", real), *((key[1], strips[key]) for key in shown)],
            f"{title}; k = {k} corrector steps a level",
        )
    axes = right.subplots(2, 2)
    for line, guided in zip(axes, (False, True), strict=True):
        for axis, measure in zip(line, ("nearest", "accuracy" if guided else "entropy"), strict=True):
            curves(axis, guided, measure, rows, floors[guided])
    return figure


def mosaic(figure: plt.Figure, lines: list[tuple[str, Tensor]], title: str) -> None:
    """Named rows of images."""
    figure.suptitle(title, fontsize=11)
    axis = figure.subplots()
    axis.imshow(torch.cat([torch.cat(list(images[:, 0]), 1) for _, images in lines]), cmap="gray", vmin=0, vmax=1)
    axis.set_yticks([28 * i + 13.5 for i in range(len(lines))], [name for name, _ in lines], fontsize=9)
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def curves(axis: plt.Axes, guided: bool, measure: str, rows: dict, floors: list[dict]) -> None:
    """A measure against alpha, a line for each number of corrector steps."""
    ks = sorted({key[2] for key in rows if key[0] == guided})
    for position, (k, colour) in enumerate(zip(ks, COLOURS, strict=False)):
        chosen = [rows[key] for alpha in ALPHAS if (key := (guided, f"alpha = {alpha:g}", k)) in rows]
        if not chosen:
            continue
        means, errors = np.array([mean_and_error([one[measure] for one in row["seeds"]]) for row in chosen]).T
        x = np.array([row["sampler"]["alpha"] for row in chosen]) + 0.03 * (position - (len(ks) - 1) / 2)
        axis.errorbar(x, means, errors, fmt="o-", color=colour, capsize=3, linewidth=1, label=f"k = {k}")
    for label, values, style in (
        ("held-out images", floors, ":"),
        ("DDPM alone", [one for k in ks[:1] for one in rows[guided, "DDPM alone", k]["seeds"]], "--"),
    ):
        if values:
            mean, error = mean_and_error([one[measure] for one in values])
            axis.axhline(mean, color=INK if style == "--" else GREY, linestyle=style, linewidth=1, label=label)
            if math.isfinite(error):
                axis.axhspan(mean - error, mean + error, color=GREY, alpha=0.15, linewidth=0)
    axis.set_xlabel(r"$\alpha$")
    axis.set_xticks(ALPHAS)
    name = {"nearest": "feature distance to the nearest image", "entropy": "class entropy", "accuracy": "right class"}
    axis.set_title(f"{'guided' if guided else 'unconditional'}: {name[measure]}", fontsize=10)
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    if measure == "nearest":
        axis.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    raise SystemExit(main())
