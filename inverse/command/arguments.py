"""What several subcommands ask for, and what a value on the command line may be."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, NoReturn

import torch

import inverse
import priors
from inverse import images
from inverse.driver import Sampler
from priors import Prior, inference

# Images up to this side are taken for those that fashion-28 is for.
SMALL = 32


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one sentence, and writes its help as it was laid out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--out",
        metavar="DIR",
        default=default,
        help="folder for the results, written whole or not at all; an earlier run's is replaced (default: %(default)s)",
    )


def add_problem(parser: argparse.ArgumentParser, by_image: bool = False) -> None:
    """Prior, sampler and how many samples. by_image: those not given are None, to be chosen by the image."""

    def add(name: str, default: str | int, otherwise: str, text: str, **options: Any) -> None:
        told = otherwise if by_image else default
        parser.add_argument(name, default=None if by_image else default, help=f"{text} (default: {told})", **options)

    small = f"fashion-28 for images of at most {SMALL} pixels a side, otherwise photo"
    add("--prior", "fashion-28", small, "name or weights file", metavar="NAME")
    chosen = "mmps; for a prior of any size mmps-spectral; dps for a physics that these cannot take"
    add("--sampler", "mmps", chosen, "see inverse list", metavar="NAME")
    parser.add_argument(
        "--sampler-option",
        metavar="KEY=VALUE",
        type=key_value,
        action="append",
        default=[],
        help="hyper-parameter of the sampler, such as steps=100; the others are chosen from the problem",
    )
    add("--n", 16, "16; with a prior of any size 8", "samples per measurement", metavar="N", type=count)


def add_inference(parser: argparse.ArgumentParser) -> None:
    """How a learned prior is run, for `prior`."""
    parser.add_argument(
        "--inference",
        metavar="MODE",
        choices=inference.MODES,
        default=inference.DEFAULT,
        help=f"how a learned prior is run: {', '.join(inference.MODES)} (default: %(default)s)",
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Seed, device and threads."""
    parser.add_argument(
        "--seed", metavar="N", type=natural, default=0, help="of all that is random (default: %(default)s)"
    )
    parser.add_argument("--device", metavar="NAME", default="cpu", help="of torch, such as cuda (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=count, help="processor threads (default: torch's own choice)")


def key_value(text: str) -> tuple[str, object]:
    """KEY=VALUE as a name and a value: whole number, number, true, false, the array of a .npy file, or else text."""
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, got {text!r}")
    if value in ("true", "false"):
        return key, value == "true"
    if Path(value).suffix == ".npy":
        try:
            array = torch.from_numpy(images.load_npy(value))
            return key, array.float() if array.is_floating_point() else array  # like the images
        except (ValueError, OSError, TypeError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            continue
    return key, value


def count(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0)


def shape(text: str) -> tuple[int, ...]:
    """C,H,W as whole numbers."""
    sides = text.split(",")
    if len(sides) != 3:
        raise argparse.ArgumentTypeError(f"must be C,H,W such as 3,256,256, got {text!r}")
    return tuple(count(side.strip()) for side in sides)


def _whole(text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
    return int(text)


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, got {text!r}")
    return value


def device(args: argparse.Namespace) -> torch.device:
    """The device to compute on, torch's threads set as asked. Raises ValueError for a device that is not there."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    try:
        torch.empty(0, device=args.device)
        return torch.device(args.device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device must be a device of this machine, got {args.device!r}: {error}") from None


def prior(args: argparse.Namespace) -> Prior:
    """The prior that --prior names, run as --inference says, on its device."""
    return inference.prepare(priors.load(args.prior).to(device(args)), args.inference)


def sampler(args: argparse.Namespace) -> Sampler:
    """The sampler that --sampler names, with its options."""
    return inverse.sampler(args.sampler, **dict(args.sampler_option))


def described(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """KEY=VALUE options for run.json: a tensor by its shape."""
    return {
        key: f"array of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else value
        for key, value in pairs
    }
