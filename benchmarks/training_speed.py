"""How much of the time of a training of the prior `photo` is its network: does it ever wait for data?

Steps of the default run of `inverse train --photo`, with crops cut from the photographs as they are needed, against
forward and backward alone of the same network on the same batches, made beforehand: at least 80% of their throughput.
Both are timed in turn, round by round; errors are over rounds. What measuring held-out errors and saving take besides
is told too: some of both happens every few minutes.

    python benchmarks/training_speed.py            # 10 rounds of 20 steps
    python benchmarks/training_speed.py --quick    # 5 rounds of 4 steps, without measuring and saving
    python benchmarks/training_speed.py --data DIR # a folder with the folders backgrounds and wallpapers
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from common import arguments, mean_and_error, report, show, table, write
from torch import Tensor
from tqdm import tqdm

from priors import photographs, training
from priors.checkpoint import Run
from priors.crops import Crops
from priors.data_sets import Ahead
from priors.training import Schedule

LEAST = 0.8


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def forward_and_backward(run: Run, batches: Sequence[Tensor], schedule: Schedule) -> None:
    """What no training step can do without, on batches that are there."""
    sigma = training.noise_levels(schedule, 0).reshape(-1, 1, 1, 1)
    for clean in batches:
        loss = (run.prior.network(clean, sigma.log().reshape(-1) / 4) - clean).square().mean()
        run.optimizer.zero_grad()
        loss.backward()


def rounds(run: Run, crops: Crops, schedule: Schedule, count: int, steps: int) -> list[dict[str, float]]:
    """Seconds of `steps` training steps and of forward and backward alone, in turn; the first round only warms up."""
    data, found = Ahead(crops), []
    for _ in tqdm(range(count + 1), desc="rounds"):
        batches = [crops.batch(schedule.batch, schedule.seed, run.step + ahead) for ahead in range(steps)]
        alone = seconds(lambda batches=batches: forward_and_backward(run, batches, schedule))
        whole = seconds(lambda: [training.advance(run, data, schedule) for _ in range(steps)])
        found.append({"training": whole, "alone": alone})
    return found[1:]


def besides(run: Run, schedule: Schedule, held_out: dict[str, Tensor]) -> dict[str, float]:
    """Seconds of measuring the held-out errors once and of writing a checkpoint once."""
    with tempfile.TemporaryDirectory() as folder:
        log, checkpoint = Path(folder) / "log.jsonl", Path(folder) / training.CHECKPOINT
        return {
            "measuring": seconds(lambda: training.evaluate(run, schedule, held_out, log)),
            "saving": seconds(lambda: run.save(checkpoint)),
        }


def main() -> int:
    parser = arguments(__doc__, "training_speed")
    parser.add_argument("--data", default=photographs.FOLDER, help="folder that holds backgrounds and wallpapers")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        crops, others = (photographs.crops(split, args.data) for split in ("train", "held-out"))
    except FileNotFoundError as error:
        parser.error(str(error))

    schedule = Schedule(minutes=600, seed=args.first_seed, **photographs.PHOTO_SCHEDULE)
    run = training.start(crops, schedule, photographs.NETWORK, "cpu")
    count, steps = (5, 4) if args.quick else (10, 20)
    found = rounds(run, crops, schedule, count, steps)
    ratio = torch.tensor([row["alone"] / row["training"] for row in found])
    images = steps * schedule.batch
    lines = [
        ["forward and backward alone", show([images / row["alone"] for row in found], 1)],
        ["training", show([images / row["training"] for row in found], 1)],
        ["their ratio", show(ratio)],
    ]
    print(table(["", "images a second"], lines))
    result = {"rounds": found, "steps": steps, "batch": schedule.batch, "ratio": mean_and_error(ratio)}
    if not args.quick:
        held_out = photographs.held_out_crops(others)
        result |= besides(run, schedule, held_out)
        every = training.TRAINED_PER_MEASURED * sum(map(len, held_out.values()))
        share = result["measuring"] / (every / images * mean_and_error([row["training"] for row in found])[0])
        result["measuring_share"] = share
        print(
            f"measuring held-out errors: {result['measuring']:.0f} s every {every:,d} images, {share:.1%} of their "
            f"training; saving: {result['saving']:.2f} s every minute"
        )
    bars = {
        f"training at {ratio.mean():.1%} of forward and backward alone, at least {LEAST:.0%}": ratio.mean() >= LEAST
    }
    bars = {bar: bool(met) for bar, met in bars.items()}
    write(args.out, {**result, "bars": bars})
    return report(bars)


if __name__ == "__main__":
    sys.exit(main())
