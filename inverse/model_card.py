"""The card of a prior that somebody trained: data, training, what it knows, and whether it only remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from inverse.files import replacing
from inverse.generalisation import Generalisation
from priors import Preconditioned
from priors.unet import UNet

MOST_NAMES = 50


def write(
    path: str | Path,
    prior: Preconditioned,
    about: Mapping[str, Any],
    data: Sequence[str],
    skipped: Sequence[tuple[str, str]],
    held_out: Sequence[str],
    settings: Mapping[str, object],
    known: Generalisation,
    picture: str | None = None,
) -> None:
    """Write the card as Markdown. about: what `training.best_prior` says of the run. data: sentences about the images.

    skipped: files and why. held_out: names of the held-out images. settings: of the training. picture: file beside it.
    """
    name = Path(path).stem
    network = cast(UNet, prior.network)
    count = sum(parameter.numel() for parameter in prior.parameters())
    if prior.image_shape is None:
        kinds = {(1,): "grey", (3,): "colour", (1, 3): "grey or colour"}[network.image_channels]
        shape = f"{kinds}, of any size"
    else:
        shape = f"({', '.join(map(str, prior.image_shape))})"
    low, high = prior.sigma_range
    seen = about["step"] * about["batch"]
    lines = [
        f"# {name}",
        "",
        f'A diffusion prior, trained by `inverse train`: `priors.load("{name}.safetensors")`.',
        "",
        "| | |",
        "| --- | --- |",
        f"| images | {shape}, values in [0, 1] |",
        f"| noise levels | sigma from {low:g} to {high:g}, in the units of the images |",
        f"| network | U-Net, {count / 1e6:.2f} million weights: {_described(network.config)} |",
        f"| preconditioning | EDM: data mean {prior.mean:.3f}, data standard deviation {prior.std:.3f} |",
        f"| licence | {prior.about.get('licence', 'not stated')} |",
        "",
        "## Data",
        "",
        *[f"- {sentence}" for sentence in data],
        f"- Held out, by image: {_listed(held_out)}.",
        f"- Skipped: {f'{len(skipped)} files.' if skipped else 'nothing.'}",
        *[f"  - `{file}`: {why}" for file, why in skipped[:MOST_NAMES]],
        *([f"  - and {len(skipped) - MOST_NAMES} more"] if len(skipped) > MOST_NAMES else []),
        "",
        "## Training",
        "",
        *[f"- {key}: {value}" for key, value in settings.items()],
        f"- Cost: {seen:,d} images ({about['step']:,d} steps) in {about['seconds'] / 60:.1f} minutes of wall time.",
        *(
            [f"- The weights are those of step {about['best_step']:,d}: of the averages measured under way the best."]
            if about["best_step"] != about["step"]
            else []
        ),
        "",
        "## What it knows",
        "",
        *_table(known),
        "",
        "## Does it generalise?",
        "",
        known.verdict,
        "",
        *_audited(known),
        "",
        *(
            ["![images, the same with noise 0.2, denoised, and draws of the prior]" + f"({picture})", ""]
            if picture
            else []
        ),
        "## Where it fails",
        "",
        "- It knows images like those it was trained on. Of any others it says what these are like, with confidence.",
        "- Its score is learned, so it is not exactly the gradient of any density; it has no exact draws.",
        "- Intervals and standard errors are over the images or crops that were measured. Crops of one image resemble",
        "  each other: with few images the true uncertainty is larger.",
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def _table(known: Generalisation) -> list[str]:
    reference, seen, unseen = known.counts
    return [
        "Mean squared error per pixel, in 1e-3, and its standard error over images: of the prior, of the kernel",
        f"mixture of {reference} training images with the bandwidth that is best on a quarter of the held-out ones,",
        "of their exact denoiser (bandwidth 0), and of a filter that knows the spectrum alone (Wiener's). Measured on",
        f"{unseen} held-out and {seen} training images, with the same noise for all.",
        "The last column is `check_score` on up to 8 held-out images: the relative difference of score and denoiser.",
        "",
        "| sigma | held-out | training | filter, held-out | kernel mixture, held-out | its bandwidth | "
        "exact, held-out | check_score |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *[
            f"| {level.sigma:g} | {_with_error(level.held_out)} | {_with_error(level.training)} | "
            f"{_with_error(level.linear)} | {_with_error(level.kernel)} | {level.bandwidth:g} | "
            f"{_with_error(level.exact)} | {level.score:.1e} |"
            for level in known.levels
        ],
    ]


def _audited(known: Generalisation) -> list[str]:
    rows = {row["sigma"]: row["relative"] for row in known.audit.table}
    return [
        "Share of memory: 1 for the exact denoiser of the training images; 0 for a prior for which images that it",
        "has not seen are harder only as far as they are for the filter. `audit`: distance of the prior's score at",
        "training images from that of their exact denoiser, over the size of the latter; 0 for a prior that knows them",
        "by heart.",
        "",
        "| sigma | share of memory (95% interval) | audit |",
        "| --- | --- | --- |",
        *[
            f"| {level.sigma:g} | {level.share[0]:.3f} ({level.share[1]:.3f} to {level.share[2]:.3f}) | "
            f"{rows[level.sigma]:.3f} |"
            for level in known.levels
        ],
    ]


def _with_error(value: tuple[float, float]) -> str:
    return f"{1e3 * value[0]:.3f} ± {1e3 * value[1]:.3f}"


def _described(config: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in config.items())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:MOST_NAMES])
    return shown + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
