"""`inverse reconstruct`"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from deepinv.physics import Physics
from torch import Tensor

import operators
from inverse import figures, images, registry, report
from inverse.command import arguments, output
from inverse.posterior import Posterior
from inverse.samples import Samples
from priors import Prior, Tiled

MOST_ROWS = 12
# Images with a longer side are denoised in tiles of this one.
TILE = 640
# Of images in [0, 1] few operators measure more.
UNUSUAL = 20.0
# Residual, in sizes of the noise, above which samples are far from what was measured.
UNEXPLAINED = 1.5
HELP = "posterior samples of your own images or measurements"
DESCRIPTION = """\
The files are images: each is measured by the operator with fresh noise and reconstructed from that, so that the
result can be compared with what went in. With --measured the file is a .npy array of measurements instead.

Images: pictures, or .npy arrays (H, W), (N, H, W) or (N, C, H, W) with values in [0, 1] or unsigned bytes. To fit the
prior they are made grey or colour, cropped at the centre and resampled, and each change is told. Transparent parts lie
over white.
Measurements: (B, *measurement shape) for the same operator, options and --seed that --measured is given, in units in
which the image is in [0, 1]; --noise is their noise. (A run's own measurement.npy is such a file.)

Writes to the folder: samples.safetensors (for inverse.Samples.load), mean.npy and std.npy, a picture of each mean,
figure.png, measurement.npy, run.json, and for images table.md and table.csv."""
EXAMPLES = """\
examples:
  inverse reconstruct shoe.png --operator gaussian-blur --option width=2 --noise 0.05
  inverse reconstruct *.jpg --operator compressed-sensing --option ratio=0.2 --sampler dps --n 32 --out cs
  inverse reconstruct shoe.png --operator inpainting --option mask=mask.npy
  inverse reconstruct photo.jpg --operator motion-blur --n 4
  inverse reconstruct y.npy --measured --operator matrix --option matrix=A.npy --noise 0.02"""


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("reconstruct", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="+", help="images, or with --measured one .npy file")
    parser.add_argument("--measured", action="store_true", help="the file holds measurements, not images")
    parser.add_argument("--operator", metavar="NAME", required=True, help="what measures; see inverse list")
    parser.add_argument(
        "--option",
        metavar="KEY=VALUE",
        type=arguments.key_value,
        action="append",
        default=[],
        help="option of the operator; arrays (mask, kernel, matrix) as .npy files",
    )
    parser.add_argument(
        "--noise",
        metavar="S",
        type=arguments.positive,
        default=0.05,
        help="standard deviation of the noise in units of the measurement (default: %(default)s)",
    )
    parser.add_argument(
        "--shape", metavar="C,H,W", type=arguments.shape, help="of the images, with --measured and a prior of any size"
    )
    arguments.add_problem(parser, by_image=True)
    parser.add_argument(
        "--antithetic", action="store_true", help="pairs of samples from opposite noise, N even: a better mean of few"
    )
    arguments.add_inference(parser)
    arguments.add_machine(parser)
    arguments.add_out(parser, "reconstruction")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    with output.folder(args.out) as out:
        chosen = args.prior is None
        args.prior = args.prior or prior_for(args)
        prior = arguments.prior(args)
        truth, y, physics, names = measured(args, prior) if args.measured else measure(args, prior)
        physics, y = physics.to(args.device), y.to(args.device)
        posterior = Posterior(prior, physics, y)
        if prior.image_shape is None and max(posterior.image_shape[1:]) > TILE:
            if args.inference == "auto" and getattr(prior, "inference", None) == "int8":
                args.inference = "channels-last"  # tiles are then the whole image to 1e-3, in 8 bits to 1e-2
                prior = arguments.prior(args)
            posterior = Posterior(Tiled(prior, TILE), physics, y)
        args.sampler = args.sampler or registry.default(posterior)
        n = args.n or (8 if prior.image_shape is None else 16)
        options = {"seed": args.seed, "progress": True, "antithetic": args.antithetic}
        samples = arguments.sampler(args).sample(posterior, n, **options)
        write(out, samples, y, truth, names)
        if truth is not None:
            table = [report.scores(args.operator, samples, physics, truth.to(args.device))]
            (out / "table.md").write_text(report.markdown(table))
            (out / "table.csv").write_text(report.comma_separated(table))
        out.record |= {
            "command": "reconstruct",
            "inputs": args.files,
            "measured": args.measured,
            "operator": args.operator,
            "options": arguments.described(args.option),
            "noise": args.noise,
            "prior": args.prior,
            "seed": args.seed,
        }
    if truth is not None:
        print(report.markdown(table))
        if table[0]["residual"] > UNEXPLAINED:
            print(
                f"the samples of {samples.sampler} do not explain the measurement: their residual is "
                f"{table[0]['residual']:.2f}, that of good ones 1; try another --seed, more steps or another --sampler",
                file=sys.stderr,
            )
    if chosen and args.prior == "fashion-28":
        print("taken for clothes, the prior is fashion-28; digits need --prior digits-28", file=sys.stderr)
    print(f"samples, mean, std and figure are in {args.out}")


def prior_for(args: argparse.Namespace) -> str:
    """Name of the shipped prior for images of this size."""
    if args.measured:
        # What was measured of an image of unknown shape is often an image itself.
        shapes = [args.shape or measurements(args).shape[1:]]
    else:
        shapes = [tuple(read([file]).x.shape[1:]) for file in args.files]
    side = max(max(shape[1:]) if len(shape) == 3 else 0 for shape in shapes)
    return "fashion-28" if side <= arguments.SMALL else "photo"


def read(files: list[str], image_shape: tuple[int, ...] | None = None) -> images.Images:
    """The images of files, and where they are none, what to do with measurements."""
    try:
        return images.load(files, image_shape)
    except images.OutOfRange as error:
        raise ValueError(f"{error} (for measurements pass --measured)") from error


def measurements(args: argparse.Namespace) -> np.ndarray:
    """The array of --measured."""
    if len(args.files) != 1 or not args.files[0].endswith(".npy"):
        raise ValueError(f"--measured needs one .npy file of measurements, got {' '.join(args.files)}")
    values = images.load_npy(args.files[0])
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{args.files[0]} must hold real numbers, got {values.dtype}")
    return values


def measure(args: argparse.Namespace, prior: Prior) -> tuple[Tensor, Tensor, Physics, list[str]]:
    """The images as truths, and measurements made of them."""
    # Where the shape is known beforehand, wrong options are refused before the images are read.
    physics = None if prior.image_shape is None else operator(args, prior.image_shape)
    truth, names, notes = read(args.files, prior.image_shape)
    for note in notes:
        print(note, file=sys.stderr)
    physics = physics or operator(args, tuple(truth.shape[1:]))
    with torch.no_grad():
        return truth, physics(truth), physics, names


def measured(args: argparse.Namespace, prior: Prior) -> tuple[None, Tensor, Physics, list[str]]:
    """The file's measurements; no truth is known."""
    values = measurements(args)
    shape = prior.image_shape or args.shape
    if shape is None:
        raise ValueError(f"--shape C,H,W is needed with --measured and {args.prior}, a prior of images of any size")
    if args.shape not in (None, tuple(shape)):
        raise ValueError(f"--shape must be that of {args.prior}, {shape}, got {args.shape}")
    y = torch.from_numpy(values.astype(np.float32))
    if y.numel() and float(y.abs().max()) > UNUSUAL:
        largest = f"{args.files[0]} has values up to {float(y.abs().max()):g}, and images are taken to be in [0, 1]"
        print(f"{largest}: if it was made of an image in 0..255, divide it by 255", file=sys.stderr)
    return None, y, operator(args, shape), [f"measurement-{i}" for i in range(len(y) if y.ndim else 0)]


def operator(args: argparse.Namespace, image_shape: tuple[int, ...]) -> Physics:
    """The physics that --operator names, with its options and noise."""
    return operators.create(args.operator, image_shape, noise=args.noise, seed=args.seed, **dict(args.option))


def write(out: output.Folder, samples: Samples, y: Tensor, truth: Tensor | None, names: list[str]) -> None:
    """All files but the table."""
    samples.save(out / "samples.safetensors")
    np.save(out / "measurement.npy", y.cpu().numpy())
    np.save(out / "mean.npy", samples.mean.cpu().numpy())
    if len(samples.x) > 1:
        np.save(out / "std.npy", samples.std.cpu().numpy())
    out.record = {"sampler": samples.sampler, "hyper": dict(samples.hyper), "info": dict(samples.info)}
    shape = samples.x.shape[2:]
    if len(shape) != 3 or shape[0] not in (1, 3):
        return
    for name, mean in zip(names, samples.mean, strict=True):
        images.write_png(out / f"{name}-mean.png", mean)
    rows = figures.rows(samples, None if truth is None else truth.to(samples.x.device))
    if len(rows) > MOST_ROWS:
        print(f"the figure shows the first {MOST_ROWS} of {len(rows)} images", file=sys.stderr)
    figures.write(rows[:MOST_ROWS], out / "figure.png")
