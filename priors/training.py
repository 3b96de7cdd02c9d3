"""Training a learned prior: denoising score matching, resumable at any moment.

The loss is that of Karras et al. 2022 (EDM), E |F(input, c_noise) - target|^2 at unit weight (see
`Preconditioned.target`), with noise levels mostly log-normal about where images form, and some over the whole range.

Everything random in a step is a function of (seed, step), so nothing but tensors and counters has to be saved, and
a run that was interrupted and resumed is the same as one that was not. Needs torch, numpy and safetensors alone:

    python -m priors.training --out runs/fashion-28 --minutes 90

That takes as many processor cores as torch is given; it may be interrupted, or killed, and started again. With labels a
prior is trained further into a conditional one, which is told the class of some of the images only, so that it stays
the prior of all of them too (Ho and Salimans 2022, Algorithm 1):

    python -m priors.training --conditional --out runs/conditional --images 128000 --learning-rate 1e-3

The prior of photographs of any size learns from crops; reading the photographs needs Pillow too:

    python -m priors.training --photographs --out runs/photo --minutes 600
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import fashion_mnist, photographs, store
from .checkpoint import Run, averaged_prior, read
from .data_sets import Ahead, DataSet, Images, chosen, generator, unit
from .preconditioned import Preconditioned

HELD_OUT_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
# Of images in [0, 1] more noise leaves little: the best weights are those that denoise best up to here.
JUDGED_UP_TO = 1.0
CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"
# Images trained on for each that is measured, at eight noise levels of a third of a step each: a twentieth of the time.
TRAINED_PER_MEASURED = 50


@dataclass(frozen=True)
class Schedule:
    """How a run goes. It ends after `images` images, or else after `minutes` of wall time summed over its sittings.

    learning_rate: its peak, after a linear rise over `warm_up` images, or over the fraction warm_up_share of the run
    where that is shorter; then a cosine to zero at the end.
    half_life: of the moving average of the weights, as a fraction of the images seen so far.
    sigma_median, sigma_spread: the log-normal law of noise levels (EDM's, scaled to a data std of 0.35).
    uniform: the fraction of images, on average, whose noise is log-uniform over sigma_range instead.
    label_dropout: the fraction of images whose class a conditional network is not told.
    """

    images: int | None = None
    minutes: float | None = None
    batch: int = 64
    learning_rate: float = 1.5e-3
    warm_up: int = 30_000
    warm_up_share: float = math.inf
    half_life: float = 0.04
    sigma_median: float = 0.2
    sigma_spread: float = 1.3
    uniform: float = 0.15
    sigma_range: tuple[float, float] = (0.002, 80.0)
    clip: float = 1.0
    label_dropout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.images is None) == (self.minutes is None):
            raise ValueError("give the length of the run as images or as minutes: exactly one of the two")
        for name in ("images", "minutes", "batch", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be finite and above 0, got {value}")

    def progress(self, images: int, seconds: float) -> float:
        """Fraction of the run that is done: by images, or by the clock."""
        by_count = images / self.images if self.images is not None else 0.0
        by_clock = seconds / (60 * self.minutes) if self.minutes is not None else 0.0
        return min(max(by_count, by_clock), 1.0)

    def rate(self, images: int, progress: float) -> float:
        """Learning rate of the step that follows `images` images."""
        rise = min(1.0, max((images + self.batch) / self.warm_up, progress / self.warm_up_share))
        return self.learning_rate * rise * (1 + math.cos(math.pi * progress)) / 2

    def keep(self, images: int) -> float:
        """Weight of the old value in the moving average of the weights, for the step that ends at `images` images."""
        return 0.5 ** (self.batch / max(self.half_life * images, self.batch))

    def measures(self, images: int, every: int) -> int:
        """How often errors are measured within `images` images: every `every` of them, later twice a half-life."""
        number = 2 / self.half_life
        return int(number * math.asinh(images / (number * every)))


def noise_levels(schedule: Schedule, step: int) -> Tensor:
    """Noise levels of a batch, (batch,): each part of the mixture stratified over its quantiles."""
    random = generator(schedule.seed, 1, step)
    uniform = int(schedule.uniform * schedule.batch + float(torch.rand((), generator=random)))
    low, high = map(math.log, schedule.sigma_range)

    def quantiles(n: int) -> Tensor:
        return (torch.arange(n) + torch.rand(n, generator=random)) / max(n, 1)

    normal = torch.special.ndtri(quantiles(schedule.batch - uniform).clamp(1e-6, 1 - 1e-6))
    log_sigma = torch.cat(
        [low + (high - low) * quantiles(uniform), math.log(schedule.sigma_median) + schedule.sigma_spread * normal]
    )
    return log_sigma.exp().clamp(*schedule.sigma_range)


def labels_of(labels: Tensor, none: int, schedule: Schedule, step: int) -> Tensor:
    """Labels (batch,) of the images of this step, some of them replaced by `none`."""
    dropped = torch.rand(schedule.batch, generator=generator(schedule.seed, 4, step)) < schedule.label_dropout
    return labels[chosen(len(labels), schedule.batch, schedule.seed, step)].masked_fill(dropped, none)


def advance(run: Run, data: DataSet, schedule: Schedule, labels: Tensor | None = None) -> float:
    """One step of Adam and of the moving average; the loss."""
    device = next(run.prior.network.parameters()).device
    clean = data.batch(schedule.batch, schedule.seed, run.step).to(device)
    sigma = noise_levels(schedule, run.step).to(device).reshape(-1, 1, 1, 1)
    noise = torch.randn(clean.shape, generator=generator(schedule.seed, 2, run.step)).to(device)
    input, target = run.prior.target(clean, noise, sigma)

    network = run.prior.network
    told = None if labels is None else labels_of(labels, network.classes, schedule, run.step).to(device)
    parameters = list(network.parameters())
    loss = (network(input, sigma.log().reshape(-1) / 4, told) - target).square().mean()
    run.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, schedule.clip)
    seen = run.step * schedule.batch
    for group in run.optimizer.param_groups:
        group["lr"] = schedule.rate(seen, schedule.progress(seen, run.seconds))
    run.optimizer.step()
    with torch.no_grad():
        for average, parameter in zip(run.average.values(), parameters, strict=True):
            average.lerp_(parameter, 1 - schedule.keep(seen + schedule.batch))
    run.step += 1
    return loss.item()


@torch.no_grad()
def held_out_errors(
    prior: Preconditioned, images: Tensor, seed: int, chunk: int = 250, labels: Tensor | None = None
) -> dict[str, float]:
    """Mean squared denoising error per pixel at each of `HELD_OUT_SIGMAS`; images (N, C, H, W), labels (N,) or none."""
    told = [prior] * len(images) if labels is None else [prior.given(part) for part in labels.split(chunk)]
    device = next(prior.parameters()).device
    clean = unit(images)
    errors = {}
    for index, sigma in enumerate(HELD_OUT_SIGMAS):
        noise = torch.randn(clean.shape, generator=generator(seed, 3, index))
        parts = zip(clean.to(device).split(chunk), noise.to(device).split(chunk), told, strict=False)
        total = sum((given.denoise(x + sigma * z, sigma) - x).square().sum().item() for x, z, given in parts)
        errors[f"{sigma:g}"] = total / clean.numel()
    return errors


@contextmanager
def stop_between_steps() -> Iterator[list[int]]:
    """A list that stays empty until an interrupt (Ctrl-C) or a polite kill, which then does nothing else."""
    stopped: list[int] = []

    def remember(number: int, _: object) -> None:
        stopped.append(number)

    try:
        old = {name: signal.signal(name, remember) for name in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever runs it there has the signals
        yield stopped
        return
    try:
        yield stopped
    finally:
        for name, handler in old.items():
            signal.signal(name, handler)


def fit(
    data: Tensor | DataSet,
    held_out: Tensor | Mapping[str, Tensor],
    out: str | Path,
    schedule: Schedule,
    *,
    network: Mapping[str, object] | None = None,
    labels: tuple[Tensor, Tensor] | None = None,
    first: Preconditioned | None = None,
    settings: Mapping[str, object] | None = None,
    look: Callable[[Preconditioned, int], object] | None = None,
    device: str = "cpu",
    checkpoint_seconds: float = 60.0,
    evaluate_images: int | None = None,
    progress: bool = True,
) -> Run:
    """Train on data, resuming what is in the folder `out`, until the schedule ends or an interrupt.

    data: images (N, C, H, W) or a data set. held_out: images, or several sets of them under their names in the log.
    Both: bytes, or floats in [0, 1]. network: arguments of `UNet`. labels: of both, for a network with classes.
    first: a prior to start from, as far as it has the weights. settings: what else must be the same for a run to be
    resumed, such as which images they are. look: is shown the averaged prior and the step whenever errors are measured:
    every `evaluate_images` images, or so that it takes a twentieth of the time, in long runs less; and at the end.
    Writes `checkpoint.safetensors`, at most `checkpoint_seconds` old at any time, `log.jsonl` (loss, and denoising
    errors on the held-out images by sigma), and `best.safetensors`, the averaged weights whose errors were least (see
    `evaluate`), for `best_prior`. Returns the run as it stands.
    """
    data = Images(data) if isinstance(data, Tensor) else data
    held_out = {"held_out": held_out} if isinstance(held_out, Tensor) else held_out
    labels_shown, labels_held_out = labels or (None, None)
    out = Path(out)
    checkpoint, best, log = out / CHECKPOINT, out / BEST, out / "log.jsonl"
    every = evaluate_images or TRAINED_PER_MEASURED * sum(map(len, held_out.values()))
    run = start(data, schedule, network or {}, device, first, settings)
    out.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        run.resume(checkpoint)
    else:
        best.unlink(missing_ok=True)
    keep_log(log, run.step)

    begun, already = time.monotonic(), run.seconds
    saved = shown = begun
    begin = run.step
    with stop_between_steps() as stopped:
        while not stopped and schedule.progress(run.step * schedule.batch, run.seconds) < 1:
            measured = schedule.measures(run.step * schedule.batch, every)
            run.losses = [*run.losses[-199:], advance(run, data, schedule, labels_shown)]
            now = time.monotonic()
            run.seconds = already + now - begun
            if progress and now - shown > 1:
                print_progress(run, schedule, (run.step - begin) * schedule.batch / (now - begun))
                shown = now
            seen = run.step * schedule.batch
            if schedule.measures(seen, every) > measured or schedule.progress(seen, run.seconds) == 1:
                keep_best(run, best, evaluate(run, schedule, held_out, log, labels_held_out, look))
            if now - saved > checkpoint_seconds:
                run.save(checkpoint)
                saved = now
        run.save(checkpoint)
    run.stopped = bool(stopped)
    if progress and run.step > begin:
        print_progress(run, schedule, (run.step - begin) * schedule.batch / (run.seconds - already))
        print(file=sys.stderr)
    return run


def start(
    data: DataSet,
    schedule: Schedule,
    network: Mapping[str, object],
    device: str,
    first: Preconditioned | None = None,
    settings: Mapping[str, object] | None = None,
) -> Run:
    """A run at its first step: weights of `first` or as the seed draws them, mean and std as the data have them."""
    if not (first is None or isinstance(first, Preconditioned)):
        raise ValueError(
            f"first must be a learned prior, whose weights a run can start from, got {type(first).__name__}"
        )
    mean, std = data.moments()
    if not (math.isfinite(mean) and std > 0):
        raise ValueError(f"data must be finite and vary, got images of mean {mean:g} and standard deviation {std:g}")
    design = {
        "network": {"in_channels": data.channels, **network},
        "mean": mean,
        "std": std,
        "image_shape": data.image_shape,
        "sigma_range": schedule.sigma_range,
    }
    prior = store.build(design, seed=schedule.seed)
    if first is not None:
        prior.network.load_state_dict(prior.network.state_dict() | first.network.state_dict())
    # Convolutions are a fifth faster with the channels last.
    prior = prior.to(device).to(memory_format=torch.channels_last)
    return Run.start(prior, {"batch": schedule.batch, "seed": schedule.seed, **(settings or {})})


def evaluate(
    run: Run,
    schedule: Schedule,
    held_out: Mapping[str, Tensor],
    log: Path,
    labels: Tensor | None = None,
    look: Callable[[Preconditioned, int], object] | None = None,
) -> float:
    """Append a line to the log: where the run is, its recent loss, and the held-out errors of the averaged weights.

    Returns the mean over sets and noise levels up to `JUDGED_UP_TO` of the logarithm of these errors.
    """
    with run.averaged() as prior:
        errors = {name: held_out_errors(prior, images, schedule.seed) for name, images in held_out.items()}
        if labels is not None:
            told = held_out_errors(prior, held_out["held_out"], schedule.seed, labels=labels)
            errors["held_out_given_labels"] = told
        if look is not None:
            look(prior, run.step)
    line = {
        "step": run.step,
        "images": run.step * schedule.batch,
        "seconds": round(run.seconds, 1),
        "loss": float(np.mean(run.losses)) if run.losses else None,
        **errors,
    }
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")
    judged = [f"{sigma:g}" for sigma in HELD_OUT_SIGMAS if sigma <= JUDGED_UP_TO]
    return float(np.mean([np.log(error[sigma]) for error in errors.values() for sigma in judged]))


def keep_best(run: Run, best: Path, error: float) -> None:
    """Write the averaged weights, which have this error, to the file `best`, unless those in it have no more."""
    if error < (read(best)[0]["error"] if best.exists() else math.inf):
        run.save_average(best, error)


def best_prior(out: str | Path) -> tuple[Preconditioned, dict[str, Any]]:
    """The prior that the run in the folder `out` has come to, and the description of its checkpoint.

    Its weights are the averages with the least held-out error, of the step that is added to the description as
    `best_step`; those of the checkpoint where errors were not measured yet.
    """
    about, _ = read(Path(out) / CHECKPOINT)
    best = Path(out) / BEST
    prior, words = averaged_prior(best if best.exists() else Path(out) / CHECKPOINT)
    return prior, about | {"best_step": words["step"]}


def keep_log(log: Path, step: int) -> None:
    """Drop lines that a killed run wrote after its last checkpoint."""
    lines = log.read_text().splitlines() if log.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    log.write_text("".join(line + "\n" for line in kept))


def print_progress(run: Run, schedule: Schedule, rate: float) -> None:
    """One line that overwrites itself: images, loss, speed, time left."""
    seen = run.step * schedule.batch
    done = schedule.progress(seen, run.seconds)
    left = run.seconds * (1 - done) / done
    loss = float(np.mean(run.losses))
    print(
        f"\r{100 * done:5.1f} %  {seen:9,d} images  loss {loss:.4f}  {rate:5.0f} images/s  {left / 60:5.1f} min left ",
        end="",
        file=sys.stderr,
        flush=True,
    )


def train(
    out: str | Path,
    data: str | Path | None = None,
    *,
    device: str = "cpu",
    progress: bool = True,
    conditional: bool = False,
    photo: bool = False,
    look: Callable[[Preconditioned, int], object] | None = None,
    first: str | Path = "fashion-28",
    **schedule: Any,
) -> Run:
    """Train the prior fashion-28 in the folder `out`, resuming the run that is there; what `inverse train` calls.

    conditional: train fashion-28-conditional instead, from the weights of the prior `first`, a name or a weights file.
    photo: train the prior of photographs instead. data: folder with Fashion-MNIST (see `fashion_mnist`), or that of the
    photographs (see `photographs`); None: where their packages put them. schedule: fields of `Schedule`, of which it
    needs `minutes` or `images`. device: of torch. progress: a line on the standard error. look: see `fit`.
    When the run ends, or is interrupted, its best averaged weights are in `out`, in a file of the prior's name, which
    `priors.load` reads.
    Raises ValueError for settings that differ from those of the run in `out` and for a `first` that is not a learned
    prior, FileNotFoundError without the data.
    """
    schedule = {name: value for name, value in schedule.items() if value is not None}
    options: dict[str, Any] = {"device": device, "progress": progress, "look": look}
    if photo:
        plan = Schedule(**{**photographs.PHOTO_SCHEDULE, **schedule})
        crops, others = (photographs.crops(split, data or photographs.FOLDER) for split in ("train", "held-out"))
        held_out = photographs.held_out_crops(others)
        run = fit(Ahead(crops), held_out, out, plan, network=photographs.NETWORK, **options)
    else:
        plan = Schedule(**schedule)
        images, labels = fashion_mnist.read("train", data or fashion_mnist.FOLDER)
        shown, shown_labels = (part[:500] for part in fashion_mnist.read("held-out", data or fashion_mnist.FOLDER))
        if conditional:
            options["network"] = {"classes": len(fashion_mnist.CLASSES)}
            options["labels"] = labels, shown_labels
            options["first"] = store.load(first)
        run = fit(images, shown, out, plan, **options)
    export(out, Path(out) / f"{_name(run.prior)}.safetensors")
    return run


def _name(prior: Preconditioned) -> str:
    if prior.image_shape is None:
        return "photo"
    return "fashion-28" if prior.network.classes is None else "fashion-28-conditional"


def export(out: str | Path, path: str | Path) -> None:
    """Write the best averaged weights of the run in the folder `out` to a weights file for `priors.load`."""
    prior, about = best_prior(out)
    name = _name(prior)
    data = photographs.ABOUT if name == "photo" else fashion_mnist.ABOUT
    store.save(prior, path, {"name": name, "data": data, "licence": "BSD-3-Clause", **history(about)})


def history(about: Mapping[str, Any]) -> dict[str, str]:
    """What the header of a weights file tells of its training. about: what `best_prior` says of the run."""
    best = about["best_step"]
    return ({} if best == about["step"] else {"weights_of_step": str(best)}) | {
        "seed": str(about["seed"]),
        "images_seen": str(about["step"] * about["batch"]),
        "steps": str(about["step"]),
        "training_seconds": f"{about['seconds']:.0f}",
    }


def main(arguments: list[str] | None = None) -> int:
    """The command `python -m priors.training`; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m priors.training", description="Train the prior fashion-28.")
    parser.add_argument("--out", required=True, help="folder of the run; a run that is there is resumed")
    parser.add_argument("--data", help="folder with Fashion-MNIST or the photographs (default: where Debian has them)")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="end after so much wall time, over all sittings")
    length.add_argument("--images", type=int, help="end after so many images")
    length.add_argument("--export", metavar="FILE", help="do not train: write the best weights of the run to FILE")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--conditional", action="store_true", help="train fashion-28 further, with labels")
    kind.add_argument("--photographs", action="store_true", dest="photo", help="train the prior of photographs")
    parser.add_argument("--batch", type=int, help="images a step (default: that of the prior)")
    parser.add_argument("--learning-rate", type=float, help="its peak (default: that of the prior)")
    parser.add_argument("--seed", type=int, default=Schedule.seed, help="of all random numbers (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="of torch, such as cuda (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="processor threads (default: torch's own choice)")
    options = vars(parser.parse_args(arguments))
    threads, target = options.pop("threads"), options.pop("export")
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        if target is not None:
            export(options["out"], target)
        elif train(**options).stopped:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
