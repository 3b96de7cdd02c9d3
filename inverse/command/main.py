"""Parsing, and what an error looks like to the person who typed the command."""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence

from inverse.command import bench, demo, listing, reconstruct, sample, sweep, train
from inverse.command.arguments import Parser

DESCRIPTION = """\
Posterior samples for imaging inverse problems, y = A(x) + noise, with score-based priors."""
EXAMPLES = """\
examples:
  inverse demo
  inverse reconstruct shoe.png --operator gaussian-blur --option width=2 --noise 0.05 --out shoe
  inverse list

exit codes: 0 done, 1 failed, 2 refused (nothing was written), 130 interrupted"""

REFUSED, FAILED, INTERRUPTED = 2, 1, 130
# What somebody typed can cause these; the rest is the machine's fault or ours.
BAD_INPUT = (
    ValueError,
    TypeError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)


def parser() -> Parser:
    """The whole command line."""
    top = Parser(prog="inverse", description=DESCRIPTION, epilog=EXAMPLES)
    top.add_argument("--version", action="version", version=f"scorefold {importlib.metadata.version('scorefold')}")
    top.add_argument("--traceback", action="store_true", help="show where in the program an error arose")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for module in (demo, reconstruct, sample, bench, sweep, train, listing):
        module.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code. argv: without the program's name; None takes it from the command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    line = parser()
    _refuse_unknown(line, argv)
    args = line.parse_args(argv)
    try:
        with _terminated_in_order():
            args.run(args)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:  # of `inverse list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except BAD_INPUT as error:
        return _say(error, REFUSED, args.traceback)
    except Exception as error:  # the exit code and the sentence must not depend on what went wrong
        return _say(error, FAILED, args.traceback)


@contextlib.contextmanager
def _terminated_in_order() -> Iterator[None]:
    """Half-written folders vanish also when the process is asked to end (SIGTERM), as by a cluster's scheduler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(error: BaseException | str, code: int, show_traceback: bool = False) -> int:
    if show_traceback:
        traceback.print_exc()
    sentence = " ".join(str(error).split()) or type(error).__name__
    print(f"inverse: {sentence}", file=sys.stderr)
    return code


def _refuse_unknown(line: Parser, argv: Sequence[str]) -> None:
    """Exit with the nearest known subcommand where the first word is none."""
    known = ["bench", "demo", "list", "reconstruct", "sample", "sweep", "train"]
    word = next((argument for argument in argv if not argument.startswith("-")), None)
    if word is not None and word not in known:
        near = difflib.get_close_matches(word, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        line.error(f"COMMAND must be one of {', '.join(known)}, got {word!r}{hint}")
