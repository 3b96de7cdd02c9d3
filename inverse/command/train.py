"""`inverse train`"""

from __future__ import annotations

import argparse
import sys

from inverse import train as own
from inverse.command import arguments
from priors import photographs, training

HELP = "train a prior on your own images, or a shipped one again; or go on with a training"
DESCRIPTION = """\
With FOLDER, trains a prior on the images in it and in the folders in it: pictures of any size and format, and .npy
arrays. Images of one size of at most 64 pixels are learned whole; of others crops are learned, and the prior is then
for images of any size. Files that cannot be used are skipped and listed. Writes FILE (for --prior), its model card
(.md: data, settings, cost, denoising errors on held-out images, whether it generalises or memorises), a picture
(.png), and beside them a folder .run with the state of the run, its log and early looks every few minutes.

Without FOLDER, trains the prior fashion-28 on the 60,000 training images of Fashion-MNIST; --out is then a folder with
the state of the run, and at the end, or at an interrupt, the weights so far are in fashion-28.safetensors there.
With --photo, trains the prior of photographs, and writes what it writes for a FOLDER.

Interrupted by Ctrl-C, or killed, the same command goes on where it was, with the same result as a run in one go."""
EXAMPLES = """\
examples:
  inverse train holidays --out prior.safetensors
  inverse train scans --grey --size 32 --minutes 20 --out scans.safetensors
  inverse reconstruct photo.jpg --prior prior.safetensors --operator motion-blur
  inverse train --minutes 90
  inverse train --minutes 20 --device cuda --batch 512 --out runs/gpu
  inverse train --photo --minutes 600 --out photo.safetensors"""


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("train", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", help="your images")
    parser.add_argument("--photo", action="store_true", help="train the prior of photographs")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="weights to write (default: prior.safetensors, with --photo photo.safetensors); for fashion-28 the folder "
        "of the run (default: runs/fashion-28)",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help=f"of fashion-28: folder with Fashion-MNIST's four .gz files (default: {training.fashion_mnist.FOLDER}, of "
        "Debian's dataset-fashion-mnist); with --photo: folder that holds the folders backgrounds and wallpapers "
        f"(default: {photographs.FOLDER}, of mate-backgrounds and plasma-workspace-wallpapers)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        metavar="M",
        type=arguments.positive,
        help=f"train so long, over all sittings (default for a FOLDER: {own.MINUTES:g})",
    )
    length.add_argument("--images", metavar="N", type=arguments.count, help="train on so many images, repeats counted")
    parser.add_argument(
        "--size",
        metavar="N",
        type=arguments.count,
        help=f"side of the crops of a FOLDER in pixels (default: {own.SIZE}, less where most images are smaller)",
    )
    parser.add_argument("--grey", action="store_true", help="make the images of a FOLDER grey")
    crops = photographs.SCHEDULE
    parser.add_argument(
        "--batch",
        metavar="N",
        type=arguments.count,
        help=f"images a step (default: {training.Schedule.batch}, for crops {crops['batch']})",
    )
    parser.add_argument(
        "--learning-rate",
        metavar="R",
        type=arguments.positive,
        help=f"its peak (default: {training.Schedule.learning_rate:g}, for crops {crops['learning_rate']:g})",
    )
    arguments.add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    _check(args)
    arguments.device(args)
    names = ("device", "minutes", "images", "batch", "learning_rate", "seed")
    options = {name: getattr(args, name) for name in names}
    if args.folder is None and not args.photo:
        out = args.out or "runs/fashion-28"
        stopped = training.train(out=out, data=args.data, **options).stopped
        done = f"the weights are in {out}/fashion-28.safetensors"
    else:
        out = args.out or ("photo.safetensors" if args.photo else "prior.safetensors")
        source = args.data if args.photo else args.folder
        stopped = own.train(source, out, size=args.size, grey=args.grey, photo=args.photo, **options).stopped
        done = f"the weights are in {out}, their card is {out.removesuffix('.safetensors')}.md"
    if stopped:
        print("the same command goes on from here", file=sys.stderr)
        raise KeyboardInterrupt
    print(done)


def _check(args: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together."""
    if args.folder is not None and args.photo:
        raise ValueError(f"--photo trains on its own photographs, so give no FOLDER, got {args.folder}")
    if args.folder is not None and args.data is not None:
        raise ValueError(f"--data is for the shipped priors, so leave it out with FOLDER, got {args.data}")
    if args.folder is None and (args.size is not None or args.grey):
        raise ValueError("--size and --grey need a FOLDER of images, got none")
    if args.folder is None and args.minutes is None and args.images is None:
        raise ValueError("one of --minutes and --images is needed without a FOLDER")
