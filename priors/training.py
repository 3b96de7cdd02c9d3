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
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import fashion_mnist, store
from .checkpoint import Run, averaged_prior
from .preconditioned import Preconditioned

HELD_OUT_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Schedule:
    """How a run goes. It ends after `images` images, or else after `minutes` of wall time summed over its sittings.

    learning_rate: its peak, after a linear rise over `warm_up` images; then a cosine to zero at the end.
    half_life: of the moving average of the weights, as a fraction of the images seen so far.
    sigma_median, sigma_spread: the log-normal law of noise levels (EDM's, scaled to a data std of 0.35).
    uniform: the fraction of each batch whose noise is log-uniform over sigma_range instead.
    label_dropout: the fraction of images whose class a conditional network is not told.
    """

    images: int | None = None
    minutes: float | None = None
    batch: int = 64
    learning_rate: float = 1.5e-3
    warm_up: int = 30_000
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
        rise = min(1.0, (images + self.batch) / self.warm_up)
        return self.learning_rate * rise * (1 + math.cos(math.pi * progress)) / 2

    def keep(self, images: int) -> float:
        """Weight of the old value in the moving average of the weights, for the step that ends at `images` images."""
        return 0.5 ** (self.batch / max(self.half_life * images, self.batch))


def generator(*key: int) -> torch.Generator:
    """Random numbers that are a function of the key, (seed, what for, index)."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def noise_levels(schedule: Schedule, step: int) -> Tensor:
    """Noise levels of a batch, (batch,): each part of the mixture stratified over its quantiles."""
    random = generator(schedule.seed, 1, step)
    uniform = round(schedule.uniform * schedule.batch)
    low, high = map(math.log, schedule.sigma_range)

    def quantiles(n: int) -> Tensor:
        return (torch.arange(n) + torch.rand(n, generator=random)) / max(n, 1)

    normal = torch.special.ndtri(quantiles(schedule.batch - uniform).clamp(1e-6, 1 - 1e-6))
    log_sigma = torch.cat(
        [low + (high - low) * quantiles(uniform), math.log(schedule.sigma_median) + schedule.sigma_spread * normal]
    )
    return log_sigma.exp().clamp(*schedule.sigma_range)


def batch_of(data: Tensor, schedule: Schedule, step: int) -> Tensor:
    """Images (batch, C, H, W) in [0, 1] of this step: every epoch is a new permutation of the data."""
    return unit(data[chosen(len(data), schedule, step)])


def labels_of(labels: Tensor, none: int, schedule: Schedule, step: int) -> Tensor:
    """Labels (batch,) of the images of this step, some of them replaced by `none`."""
    dropped = torch.rand(schedule.batch, generator=generator(schedule.seed, 4, step)) < schedule.label_dropout
    return labels[chosen(len(labels), schedule, step)].masked_fill(dropped, none)


def chosen(n: int, schedule: Schedule, step: int) -> Tensor:
    """Which of n images are in the batch of this step, (batch,)."""
    positions = torch.arange(step * schedule.batch, (step + 1) * schedule.batch)
    indices = torch.empty_like(positions)
    for epoch in (positions // n).unique().tolist():
        here = positions // n == epoch
        indices[here] = epoch_order(n, schedule.seed, epoch)[positions[here] % n]
    return indices


@lru_cache(maxsize=2)
def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The permutation of n images in that epoch."""
    return torch.randperm(n, generator=generator(seed, 0, epoch))


def unit(images: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1]; floats as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def advance(run: Run, data: Tensor, schedule: Schedule, labels: Tensor | None = None) -> float:
    """One step of Adam and of the moving average; the loss."""
    device = next(run.prior.network.parameters()).device
    clean = batch_of(data, schedule, run.step).to(device)
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
    """Mean squared denoising error per pixel at each of `HELD_OUT_SIGMAS`, on images (N, C, H, W), told their labels."""
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
    data: Tensor,
    held_out: Tensor,
    out: str | Path,
    schedule: Schedule,
    *,
    network: dict | None = None,
    labels: tuple[Tensor, Tensor] | None = None,
    first: Preconditioned | None = None,
    device: str = "cpu",
    checkpoint_seconds: float = 60.0,
    evaluate_seconds: float = 240.0,
    progress: bool = True,
) -> Run:
    """Train on data (N, C, H, W), resuming what is in the folder `out`, until the schedule ends or an interrupt.

    data, held_out: bytes, or floats in [0, 1]. network: arguments of `UNet`. labels: of both, for a network with
    classes. first: a prior to start from, as far as it has the weights. Writes `checkpoint.safetensors`, at most
    `checkpoint_seconds` old at any time, and `log.jsonl` (loss, and denoising errors on the held-out images by sigma).
    Returns the run as it stands; its `average` holds the weights to use.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, log = out / CHECKPOINT, out / "log.jsonl"
    run = start(data, schedule, network or {}, device, first)
    if checkpoint.exists():
        run.resume(checkpoint)
        keep_log(log, run.step)

    begun, already = time.monotonic(), run.seconds
    saved = evaluated = shown = begun
    begin = run.step
    with stop_between_steps() as stopped:
        while not stopped and schedule.progress(run.step * schedule.batch, run.seconds) < 1:
            run.losses = [*run.losses[-199:], advance(run, data, schedule, *(labels or ())[:1])]
            now = time.monotonic()
            run.seconds = already + now - begun
            if progress and now - shown > 1:
                print_progress(run, schedule, (run.step - begin) * schedule.batch / (now - begun))
                shown = now
            if now - evaluated > evaluate_seconds:
                evaluate(run, schedule, held_out, log, *(labels or ())[1:])
                evaluated = time.monotonic()
            if now - saved > checkpoint_seconds:
                run.save(checkpoint)
                saved = now
        evaluate(run, schedule, held_out, log, *(labels or ())[1:])
        run.save(checkpoint)
    run.stopped = bool(stopped)
    if progress and run.step > begin:
        print_progress(run, schedule, (run.step - begin) * schedule.batch / (run.seconds - already))
        print(file=sys.stderr)
    return run


def start(
    data: Tensor,
    schedule: Schedule,
    network: Mapping[str, object],
    device: str,
    first: Preconditioned | None = None,
) -> Run:
    """A run at its first step: weights of `first` or as the seed draws them, mean and std as the data have them."""
    values = data.double() / (255 if data.dtype == torch.uint8 else 1)
    mean, std = values.mean().item(), values.std().item()
    if not (math.isfinite(mean) and std > 0):
        raise ValueError(f"data must be finite and vary, got images of mean {mean:g} and standard deviation {std:g}")
    design = {
        "network": {"in_channels": data.shape[1], **network},
        "mean": mean,
        "std": std,
        "image_shape": data.shape[1:],
        "sigma_range": schedule.sigma_range,
    }
    prior = store.build(design, seed=schedule.seed)
    if first is not None:
        prior.network.load_state_dict(prior.network.state_dict() | first.network.state_dict())
    # Convolutions are a fifth faster with the channels last.
    prior = prior.to(device).to(memory_format=torch.channels_last)
    return Run.start(prior, {"batch": schedule.batch, "seed": schedule.seed})


def evaluate(run: Run, schedule: Schedule, held_out: Tensor, log: Path, labels: Tensor | None = None) -> None:
    """Append a line to the log: where the run is, its recent loss, and the held-out errors of the averaged weights."""
    with run.averaged() as prior:
        errors = {"held_out": held_out_errors(prior, held_out, schedule.seed)}
        if labels is not None:
            errors["held_out_given_labels"] = held_out_errors(prior, held_out, schedule.seed, labels=labels)
    line = {
        "step": run.step,
        "images": run.step * schedule.batch,
        "seconds": round(run.seconds, 1),
        "loss": float(np.mean(run.losses)) if run.losses else None,
        **errors,
    }
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")


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
    data: str | Path = fashion_mnist.FOLDER,
    *,
    device: str = "cpu",
    progress: bool = True,
    conditional: bool = False,
    first: str | Path = "fashion-28",
    **schedule: Any,
) -> Run:
    """Train the prior fashion-28 in the folder `out`, resuming the run that is there; what `inverse train` calls.

    conditional: train fashion-28-conditional instead, from the weights of the prior `first`, a name or a weights file.
    data: folder with Fashion-MNIST (see `fashion_mnist`). schedule: fields of `Schedule`, of which it needs `minutes` or `images`. device: of torch.
    progress: a line on the standard error. When the run ends, or is interrupted, its averaged weights are in `out`, in
    a file of the prior's name, which `priors.load` reads.
    Raises ValueError for settings that differ from those of the run in `out`, FileNotFoundError without the data.
    """
    plan = Schedule(**schedule)
    images, labels = fashion_mnist.read("train", data)
    held_out, held_out_labels = fashion_mnist.read("held-out", data)
    further: dict[str, Any] = {}
    if conditional:
        further["network"] = {"classes": len(fashion_mnist.CLASSES)}
        further["labels"] = labels, held_out_labels[:500]
        further["first"] = store.load(first)
    run = fit(images, held_out[:500], out, plan, device=device, progress=progress, **further)
    export(out, Path(out) / f"{_name(run.prior)}.safetensors")
    return run


def _name(prior: Preconditioned) -> str:
    return "fashion-28" if prior.network.classes is None else "fashion-28-conditional"


def export(out: str | Path, path: str | Path) -> None:
    """Write the averaged weights of the run in the folder `out` to a weights file for `priors.load`."""
    prior, about = averaged_prior(Path(out) / CHECKPOINT)
    store.save(
        prior,
        path,
        {
            "name": _name(prior),
            "data": "Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, MIT licence), its 60,000 training images",
            "licence": "BSD-3-Clause",
            "seed": str(about["seed"]),
            "images_seen": str(about["step"] * about["batch"]),
            "steps": str(about["step"]),
            "training_seconds": f"{about['seconds']:.0f}",
        },
    )


def main(arguments: list[str] | None = None) -> int:
    """The command `python -m priors.training`; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m priors.training", description="Train the prior fashion-28.")
    parser.add_argument("--out", required=True, help="folder of the run; a run that is there is resumed")
    parser.add_argument("--data", default=fashion_mnist.FOLDER, help="folder with Fashion-MNIST (default: %(default)s)")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="end after so much wall time, over all sittings")
    length.add_argument("--images", type=int, help="end after so many images")
    length.add_argument("--export", metavar="FILE", help="do not train: write the averaged weights of the run to FILE")
    parser.add_argument("--conditional", action="store_true", help="train fashion-28 further, with labels")
    parser.add_argument("--batch", type=int, default=Schedule.batch, help="images a step (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=Schedule.learning_rate, help="(default: %(default)s)")
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
