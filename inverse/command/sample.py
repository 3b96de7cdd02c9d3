"""`inverse sample`"""

from __future__ import annotations

import argparse

import numpy as np

from inverse import figures, unconditional
from inverse.command import arguments, output
from priors import Prior

HELP = "samples of a prior itself, without a measurement"
DESCRIPTION = """\
Draws images from the prior alone: Heun's method along the probability flow from noise to images, 2 x steps - 1
denoiser calls per image. What a prior believes shows here, before it is trusted with a measurement.

Writes to the folder: samples.npy (n, C, H, W), figure.png, run.json."""
EXAMPLES = """\
examples:
  inverse sample
  inverse sample --prior fashion-28 --n 64 --seed 1 --out fashion
  inverse sample --prior runs/mine/fashion-28.safetensors
  inverse sample --prior prior.safetensors --size 64"""


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("sample", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument(
        "--prior", metavar="NAME", default="fashion-28", help="name or weights file (default: %(default)s)"
    )
    parser.add_argument("--n", metavar="N", type=arguments.count, default=16, help="images (default: %(default)s)")
    parser.add_argument(
        "--steps", metavar="N", type=arguments.count, default=40, help="noise levels, at least 2 (default: %(default)s)"
    )
    parser.add_argument(
        "--size", metavar="N", type=arguments.count, help="side in pixels, for a prior of images of any size"
    )
    arguments.add_inference(parser)
    arguments.add_machine(parser)
    arguments.add_out(parser, "sample")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    with output.folder(args.out) as out:
        prior = arguments.prior(args)
        x = unconditional.sample(
            prior,
            args.n,
            _shape(args, prior),
            seed=args.seed,
            steps=args.steps,
            device=arguments.device(args),
            progress=True,
        ).cpu()
        np.save(out / "samples.npy", x.numpy())
        if x.ndim == 4 and x.shape[1] in (1, 3):
            figures.write_grid(x, out / "figure.png")
        out.record = {"command": "sample", "prior": args.prior, "n": args.n, "steps": args.steps, "seed": args.seed}
    print(f"{args.n} images are in {args.out}")


def _shape(args: argparse.Namespace, prior: Prior) -> tuple[int, ...] | None:
    """That of images to draw from a prior for any size, in colour where it knows colour."""
    if (args.size is None) != (prior.image_shape is not None):
        needed = "is needed for" if args.size is None else "must be left out for"
        raise ValueError(f"--size {needed} {args.prior}, which is for images of shape {prior.image_shape or 'any'}")
    channels = getattr(getattr(prior, "network", None), "image_channels", (1,))
    return None if args.size is None else (max(channels), args.size, args.size)
