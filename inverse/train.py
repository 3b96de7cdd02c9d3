"""A prior of somebody's own images, from a folder of them to weights with a card."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inverse import folder as folders
from inverse import generalisation, look, model_card
from priors import photographs, store, training
from priors.checkpoint import Run
from priors.crops import Crops
from priors.data_sets import Ahead, DataSet, Images, generator

MINUTES = 60.0
SIZE = 64
LOOKED_AT, REFERENCE = 8, 1024
# Images that are denoised for the card: of whole ones, which are small, more.
MEASURED, MEASURED_WHOLE = 128, 512
# Values of the images that the exact denoiser of the training set is made of.
MOST_VALUES = 2**27
WHOLE_SCHEDULE = {"batch": 64, "warm_up": 10_000, "warm_up_share": 0.05}


@dataclass(frozen=True)
class Material:
    """What a training is made of.

    data: to train on. logged: held-out images for the log. training, held_out: images (N, C, h, w) to measure on.
    points: how many of each. network, schedule: the design that suits it. identity: by which a run knows its data
    again. sentences, skipped, names: for the card: about the images, files and why, the held-out images.
    """

    data: DataSet
    logged: Mapping[str, Tensor]
    training: Tensor
    held_out: Tensor
    network: Mapping[str, object]
    schedule: Mapping[str, Any]
    identity: Mapping[str, object]
    points: int
    sentences: Sequence[str]
    skipped: Sequence[tuple[str, str]] = ()
    names: Sequence[str] = ()
    licence: str = "that of the images, which this program does not know"


def train(
    folder: str | Path | None,
    out: str | Path = "prior.safetensors",
    *,
    size: int | None = None,
    grey: bool = False,
    photo: bool = False,
    device: str = "cpu",
    progress: bool = True,
    network: Mapping[str, object] | None = None,
    **schedule: Any,
) -> Run:
    """Train a prior on the images of a folder; what `inverse train FOLDER` calls.

    Images of one size of at most 64 pixels are learned whole. Of others crops are learned, at full, half and quarter
    scale, turned and mirrored, and the prior is for images of any size, grey and in colour. A tenth of the images, at
    least one, is held out. The run lives in a folder beside `out` with the ending .run: interrupted, or killed, it goes
    on there; in it are log.jsonl and pictures of what the prior makes of noise. At the end `out` holds the weights, for
    `priors.load`, and a .md file beside it the model card.

    size: side of the crops, pixels; None: 64, or less where most images are smaller. grey: make all images grey.
    photo: train the shipped prior of photographs instead; folder is then that of its data, or None. schedule: fields of
    `training.Schedule`, of which without `minutes` and `images` it takes 60 minutes. network: arguments of `UNet`
    instead of the design that suits the images.
    Returns the run; where it was interrupted, nothing but its folder was written.
    Raises ValueError, NotADirectoryError, FileExistsError and FileNotFoundError, each with one sentence.
    """
    out = Path(out)
    run_folder = out.with_suffix(".run")
    _check_out(out, run_folder)
    schedule = {name: value for name, value in schedule.items() if value is not None}
    if "minutes" not in schedule and "images" not in schedule:
        schedule["minutes"] = MINUTES
    material = photo_material(folder or photographs.FOLDER) if photo else folder_material(str(folder), size, grey)
    plan = training.Schedule(**{**material.schedule, **schedule})
    if progress:
        for sentence in material.sentences:
            print(sentence, file=sys.stderr)
        for name, why in material.skipped:
            print(f"skipped {name}: {why}", file=sys.stderr)
    run_folder.mkdir(parents=True, exist_ok=True)
    shown = material.held_out[:LOOKED_AT]
    run = training.fit(
        Ahead(material.data),
        material.logged,
        run_folder,
        plan,
        network=material.network if network is None else network,
        settings=material.identity,
        look=lambda prior, step: look.write(prior, shown, run_folder / f"look-{step:07d}.png"),
        device=device,
        progress=progress,
    )
    if not run.stopped:
        finish(run_folder, out, material, plan, device, progress)
    return run


def finish(
    run_folder: Path, out: Path, material: Material, plan: training.Schedule, device: str, progress: bool
) -> None:
    """Weights, card and last picture of a run that has ended."""
    prior, about = training.best_prior(run_folder)
    words = {"name": out.stem, "data": material.sentences[0], "licence": material.licence}
    prior.about |= words | training.history(about)
    known = generalisation.generalisation(
        prior.to(device), material.training, material.held_out, points=material.points, progress=progress
    )
    picture = f"{out.stem}.png"
    look.write(prior, material.held_out[:LOOKED_AT], out.with_name(picture))
    settings = {
        "Loss": "denoising score matching with EDM's weights, Adam, a cosine to zero",
        "Batches": f"{plan.batch} images; peak learning rate {plan.learning_rate:g}; seed {plan.seed}",
        "Noise": f"log-normal about {plan.sigma_median:g} with spread {plan.sigma_spread:g}, "
        f"{plan.uniform:.0%} log-uniform over the whole range",
        "Weights": f"their moving average, with a half-life of {plan.half_life:.0%} of the images seen",
    }
    names, skipped = material.names, material.skipped
    model_card.write(out.with_suffix(".md"), prior, about, material.sentences, skipped, names, settings, known, picture)
    store.save(prior, out)


def folder_material(folder: str | Path, size: int | None = None, grey: bool = False) -> Material:
    """The images of a folder, split into training and held-out ones. See `train`."""
    if size is not None and (size < folders.LEAST_SIDE or size > 512):
        raise ValueError(f"size must be from {folders.LEAST_SIDE} to 512 pixels, got {size}")
    found = folders.read(folder, grey)
    shapes = {tuple(image.shape) for image in found.images}
    whole = size is None and len(shapes) == 1 and max(next(iter(shapes))[1:]) <= SIZE and len(found.images) >= 16
    return _whole(found, folder) if whole else _cropped(found, folder, size)


def _whole(found: folders.Pictures, folder: str | Path) -> Material:
    values = torch.stack(found.images)
    order = torch.randperm(len(values), generator=generator(0, 7))
    first = max(4, min(len(values) // 10, 1000))
    held_out, train = values[order[:first].sort().values], values[order[first:].sort().values]
    channels, height, width = values.shape[1:]
    kind = "grey" if channels == 1 else "colour"
    most = max(8, min(len(train), MOST_VALUES // train[0].numel()))
    return Material(
        data=Images(train),
        logged={"held_out": held_out[:500]},
        training=train[:most].float() / 255,
        held_out=held_out.float() / 255,
        network={},
        schedule=WHOLE_SCHEDULE,
        identity={"images": f"{len(values)} with digest {found.digest()}"},
        points=MEASURED_WHOLE,
        sentences=[
            f"{len(train)} {kind} images {width} x {height} of the folder {_name(folder)}, learned whole; "
            f"{len(held_out)} more are held out.",
            *_capital(found.notes),
        ],
        skipped=found.skipped,
        names=[found.names[index] for index in order[:first].sort().values.tolist()],
    )


def _cropped(found: folders.Pictures, folder: str | Path, size: int | None) -> Material:
    sides = torch.tensor([min(image.shape[1:]) for image in found.images])
    if size is None:
        size = min(SIZE, max(8, int(sides.double().quantile(0.25)) // 8 * 8))
    large = (sides >= size).nonzero().flatten().tolist()
    small = [
        (name, f"too small for crops of {size}") for name, side in zip(found.names, sides, strict=True) if side < size
    ]
    if len(large) < 2:
        raise ValueError(
            f"FOLDER must hold at least 2 images of {size} pixels a side, one to hold out, got {len(large)} in {folder}"
        )
    order = torch.randperm(len(large), generator=generator(0, 7)).tolist()
    first = sorted(large[place] for place in order[: max(1, min(len(large) // 10, 200))])
    rest = sorted(set(large) - set(first))
    crops = Crops([found.images[index] for index in rest], size)
    others = Crops([found.images[index] for index in first], size)
    most = max(crops.channels)
    kinds = "grey" if most == 1 else "colour"
    reference = max(8, min(REFERENCE, MOST_VALUES // (most * size**2)))
    return Material(
        data=crops,
        logged=photographs.held_out_crops(others, 32),
        training=crops.of(most, reference, seed=1),
        held_out=others.of(most, MEASURED, seed=1),
        network=photographs.NETWORK,
        schedule=photographs.SCHEDULE,
        identity={"images": f"{len(large)} with digest {found.digest()}", "size": size},
        points=MEASURED,
        sentences=[
            f"Crops {size} x {size} of {len(rest)} {kinds} images of the folder {_name(folder)}, at full, half and "
            f"quarter scale, turned and mirrored; {len(first)} more images are held out.",
            *(["Half of the batches are made grey, so that the prior knows grey images too."] if most == 3 else []),
            *_capital(found.notes),
        ],
        skipped=[*found.skipped, *small],
        names=[found.names[index] for index in first],
    )


def photo_material(folder: str | Path = photographs.FOLDER) -> Material:
    """The photographs of the shipped prior. folder: see `photographs.files`."""
    crops, others = photographs.crops("train", folder), photographs.crops("held-out", folder)
    return Material(
        data=crops,
        logged=photographs.held_out_crops(others),
        training=crops.of(3, REFERENCE, seed=1),
        held_out=others.of(3, MEASURED, seed=1),
        network=photographs.NETWORK,
        schedule=photographs.PHOTO_SCHEDULE,
        identity={},
        points=MEASURED,
        sentences=[
            f"{photographs.ABOUT}.",
            f"Crops {photographs.SIZE} x {photographs.SIZE} at scales 1/2, 1/3, 1/4 and 1/6, turned and mirrored; half "
            "of the batches are made grey.",
        ],
        names=photographs.HELD_OUT,
        licence="BSD-3-Clause",
    )


def _name(folder: str | Path) -> str:
    return Path(folder).resolve().name


def _capital(notes: Sequence[str]) -> list[str]:
    return [f"{note[0].upper()}{note[1:]}." for note in notes]


def _check_out(out: Path, run_folder: Path) -> None:
    """Raise unless `out` is a file that can be written and does not replace what no run of this kind wrote."""
    if out.suffix != store.SUFFIX:
        raise ValueError(f"--out must be a file ending in {store.SUFFIX} for a prior of one's own images, got {out}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out must be in a folder that exists, got {out}")
    for path in (out, out.with_suffix(".md"), out.with_suffix(".png")):
        if path.exists() and not (run_folder / training.CHECKPOINT).exists():
            raise FileExistsError(f"--out must be new, or that of an earlier run of this command, and {path} exists")
