"""The folder of a sweep: one small Parquet file for each cell, written once and atomically.

out/sweep.json          what the sweep is, in words and as a digest, and the format of its rows
out/rows/KEY.parquet    one row each
out/corrupt/            rows that could not be read, moved aside and computed again
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from inverse.files import replacing

from .grid import FORMAT

_TEXT = ("key", "problem", "prior", "sampler", "error", "status", "message", "hyper", "error_settings")
_VERSIONS = ("scorefold", "torch", "deepinv")
_WHOLE = ("seed", "n", "nfe", "format")


class Store:
    """The results of one sweep in a folder. Raises ValueError where the folder holds something else."""

    def __init__(self, folder: str | Path, digest: str, about: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.rows = self.folder / "rows"
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"out must be a folder, got a file: {self.folder}")
        self._check(digest)
        self.rows.mkdir(parents=True, exist_ok=True)
        manifest = self.folder / "sweep.json"
        if not manifest.exists():
            _write(manifest, json.dumps({"format": FORMAT, "digest": digest, **about}, indent=1, default=str).encode())

    def _check(self, digest: str) -> None:
        manifest = self.folder / "sweep.json"
        if not manifest.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise ValueError(f"out must be an empty folder or one of this sweep, got other files in {self.folder}")
            return
        try:
            found = json.loads(manifest.read_text())
            version, other = found["format"], found["digest"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"out must be a folder of this sweep, got an unreadable {manifest}") from None
        if version != FORMAT:
            raise ValueError(f"out must hold results of format {FORMAT}, got format {version} in {self.folder}")
        if other != digest:
            raise ValueError(f"out must be an empty folder or one of this sweep, got one of another in {self.folder}")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a sweep writes; the system gives it back when the process dies, however it dies."""
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"out must not be in use by another run, got {self.folder}") from None
            yield

    def done(self) -> set[str]:
        """Keys of the rows that are there and can be read; others are moved aside."""
        return {row["key"] for row in self.read()}

    def write(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        path = self.rows / f"{row['key']}.parquet"
        with replacing(path) as temporary:
            parquet.write_table(pa.Table.from_pylist([row], schema=_schema(row)), temporary)

    def read(self) -> list[dict[str, Any]]:
        """All rows, in the order of their keys."""
        found = (self._row(path) for path in sorted(self.rows.glob("*.parquet")))
        return [row for row in found if row is not None]

    def _row(self, path: Path) -> dict[str, Any] | None:
        try:
            (row,) = parquet.ParquetFile(path).read().to_pylist()
            if row["key"] != path.stem:
                raise ValueError("its key is not its name")
            return row
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            aside = self.folder / "corrupt"
            aside.mkdir(exist_ok=True)
            path.replace(aside / path.name)
            warnings.warn(f"{path.name} cannot be read ({error}) and was moved to {aside}", stacklevel=2)
            return None


def _schema(row: Iterable[str]) -> pa.Schema:
    """The same for every row, so that missing values do not change a column's type."""

    def kind(name: str) -> pa.DataType:
        if name in _TEXT or name in _VERSIONS:
            return pa.string()
        return pa.int64() if name in _WHOLE else pa.float64()

    return pa.schema([(name, kind(name)) for name in row])


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
