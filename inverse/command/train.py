"""`inverse train`"""

from __future__ import annotations

import argparse
import sys

from inverse.command import arguments
from priors import training

HELP = "train the learned prior, or go on with a training"
DESCRIPTION = """\
Trains the prior fashion-28 on the 60,000 training images of Fashion-MNIST. The folder holds the state of the
run: interrupted by Ctrl-C, or killed, the same command goes on where it was, with the same result as a run in one go.
At the end, or at an interrupt, the weights so far are in fashion-28.safetensors there, for --prior."""
EXAMPLES = """\
examples:
  inverse train --minutes 90
  inverse train --minutes 20 --device cuda --batch 512 --out runs/gpu
  inverse sample --prior runs/fashion-28/fashion-28.safetensors"""


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("train", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument(
        "--out", metavar="DIR", default="runs/fashion-28", help="folder of the run (default: %(default)s)"
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        default=str(training.fashion_mnist.FOLDER),
        help="folder with Fashion-MNIST's four .gz files (default: %(default)s, of Debian's dataset-fashion-mnist)",
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", metavar="M", type=arguments.positive, help="train so long, over all sittings")
    length.add_argument("--images", metavar="N", type=arguments.count, help="train on so many images, repeats counted")
    schedule = training.Schedule
    parser.add_argument(
        "--batch",
        metavar="N",
        type=arguments.count,
        default=schedule.batch,
        help="images a step (default: %(default)s)",
    )
    parser.add_argument(
        "--learning-rate",
        metavar="R",
        type=arguments.positive,
        default=schedule.learning_rate,
        help="its peak (default: %(default)s)",
    )
    arguments.add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    arguments.device(args)
    names = ("out", "data", "device", "minutes", "images", "batch", "learning_rate", "seed")
    if training.train(**{name: getattr(args, name) for name in names}).stopped:
        print("the same command goes on from here", file=sys.stderr)
        raise KeyboardInterrupt
    print(f"the weights are in {args.out}/fashion-28.safetensors")
