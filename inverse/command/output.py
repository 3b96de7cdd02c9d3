"""The folder that --out names: written whole at the end, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

RECORD = "run.json"


class Folder:
    """A folder under construction. path: where to write. record: what `run.json` will say beside the list of files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record: dict[str, object] = {}

    def __truediv__(self, name: str) -> Path:
        return self.path / name


@contextlib.contextmanager
def folder(out: str | Path) -> Iterator[Folder]:
    """A new folder that becomes `out` when the block ends, and vanishes with all that is in it when the block fails.

    An existing `out` is replaced when it is empty, or holds nothing but what an earlier run of the command wrote there,
    as listed in its run.json. Raises FileExistsError for any other, and OSError at once where none can be written.
    """
    if not str(out):
        raise ValueError("--out must name a folder, got an empty text")
    out = Path(os.path.abspath(out))
    _check_replaceable(out)
    nearest = next(parent for parent in out.parents if parent.exists())
    try:
        staging = Path(tempfile.mkdtemp(dir=nearest, prefix=f".{out.name}."))
    except OSError as error:
        raise type(error)(f"--out must be a folder that can be written, got {out}: {error.strerror}") from error
    try:
        new = Folder(staging / "new")
        new.path.mkdir()  # with the permissions of an ordinary folder, unlike its parent
        yield new
        files = sorted(file.relative_to(new.path).as_posix() for file in new.path.rglob("*") if file.is_file())
        record = {**new.record, "files": [*files, RECORD]}
        (new / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        out.parent.mkdir(parents=True, exist_ok=True)
        _check_replaceable(out)
        if out.exists():
            out.rename(staging / "old")
        new.path.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    """Raise unless `out` does not exist, is empty, or holds only files that its run.json lists."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise FileExistsError(f"--out must be a folder, got the file {out}")
    found = {file.relative_to(out).as_posix() for file in out.rglob("*") if not file.is_dir()}
    foreign = sorted(found - _listed(out))
    if foreign:
        raise FileExistsError(
            f"--out must be new, empty, or hold only an earlier run of this command, got {out} with {foreign[0]} in it"
        )


def _listed(out: Path) -> set[str]:
    try:
        return set(json.loads((out / RECORD).read_text())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
