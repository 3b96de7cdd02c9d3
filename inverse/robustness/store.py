"""The folder of a sweep: one small Parquet file for each cell, written once and atomically.

out/sweep.json          what the sweep is, in words and as a digest, the format of its rows, and versions
out/rows/KEY.parquet    one row each, with its checksum
out/corrupt/            rows that could not be read, moved aside and computed again
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from inverse.files import replacing

from .cells import versions
from .grid import FORMAT

_TEXT = ("key", "problem", "prior", "sampler", "error", "status", "message", "hyper", "error_settings")
_VERSIONS = ("scorefold", "torch", "deepinv")
_WHOLE = ("seed", "n", "nfe", "format")
CHECKSUM = b"sha256"


class Store:
    """The results of one sweep in a folder; see `opened`."""

    def __init__(self, folder: str | Path, digest: str, about: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.rows = self.folder / "rows"
        self.manifest = self.folder / "sweep.json"
        self.digest, self.about = digest, about

    @contextlib.contextmanager
    def opened(self) -> Iterator[Store]:
        """For one run at a time, which may be killed at any moment.

        Raises ValueError where the folder is in use, or holds something else, another sweep, or another version's.
        """
        self._check_files()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock():
            self._check_manifest()
            self.rows.mkdir(exist_ok=True)
            yield self

    def _check_files(self) -> None:
        """Before anything is written, so that a folder of something else is left as it was."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"out must be a folder, got a file: {self.folder}")
        if self.folder.exists() and not self.manifest.exists() and not all(map(self._is_ours, self.folder.iterdir())):
            raise ValueError(f"out must be an empty folder or one of this sweep, got other files in {self.folder}")

    def _is_ours(self, path: Path) -> bool:
        """What a run leaves that was killed before its manifest was there, or that another one has made meanwhile."""
        if path == self.rows:
            return self.manifest.exists() or (path.is_dir() and not any(path.iterdir()))
        return path.name in (".lock", self.manifest.name) or path.name.startswith(f".{self.manifest.name}.")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """The system gives it back when the process dies, however it dies."""
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"out must not be in use by another run, got {self.folder}") from None
            yield

    def _check_manifest(self) -> None:
        """Write it in a new folder; else it must be of this sweep and of these versions."""
        if not self.manifest.exists():
            about = {"format": FORMAT, "digest": self.digest, "versions": versions(), **self.about}
            _write(self.manifest, json.dumps(about, indent=1, default=str).encode())
            return
        try:
            found = json.loads(self.manifest.read_text())
            form, digest, known = found["format"], found["digest"], dict(found.get("versions", {}))
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"out must be a folder of this sweep, got an unreadable {self.manifest}") from None
        other = {name: version for name, version in versions().items() if known.get(name) != version}
        if other:
            got = _told({name: known[name] for name in other if name in known}) or "an older version"
            raise ValueError(f"out must hold results of {_told(other)}, got those of {got} in {self.folder}")
        if form != FORMAT:
            raise ValueError(f"out must hold results of format {FORMAT}, got format {form} in {self.folder}")
        if digest != self.digest:
            raise ValueError(f"out must be an empty folder or one of this sweep, got one of another in {self.folder}")

    def done(self, retry_failed: bool = False) -> set[str]:
        """Keys of the rows that are there and can be read; others are moved aside. retry_failed: no failed ones."""
        return {row["key"] for row in self.read() if not (retry_failed and row["status"] == "failed")}

    def write(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        path = self.rows / f"{row['key']}.parquet"
        table = pa.Table.from_pylist([row], schema=_schema(row))
        table = table.replace_schema_metadata({CHECKSUM: _checksum(table.to_pylist()[0])})
        with replacing(path) as temporary:
            parquet.write_table(table, temporary, write_page_checksum=True)

    def read(self) -> list[dict[str, Any]]:
        """All rows, in the order of their keys."""
        found = (self._row(path) for path in sorted(self.rows.glob("*.parquet")))
        return [row for row in found if row is not None]

    def _row(self, path: Path) -> dict[str, Any] | None:
        try:
            return read_row(path)
        except ValueError as error:
            aside = self.folder / "corrupt"
            aside.mkdir(exist_ok=True)
            path.replace(aside / path.name)
            warnings.warn(f"{path.name} cannot be read ({error}) and was moved to {aside}", stacklevel=2)
            return None


def read_row(path: Path) -> dict[str, Any]:
    """A row as it was written. Raises ValueError where it is not."""
    try:
        table = parquet.ParquetFile(path, page_checksum_verification=True).read()
        (row,) = table.to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(" ".join(str(error).split())) from None
    # That of the pages leaves out the names and types of the columns. Rows of older versions have neither.
    if (table.schema.metadata or {}).get(CHECKSUM, _checksum(row)) != _checksum(row):
        raise ValueError("its checksum is another")
    if row.get("key") != path.stem:
        raise ValueError("its key is not its name")
    return row


def _checksum(row: dict[str, Any]) -> bytes:
    return hashlib.sha256(repr(row).encode()).hexdigest().encode()


def _told(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


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
