"""The folder of a sweep: killed at any moment a run can be gone on with, and no row is read that was not written."""

import json
import os
import re
import sys
import warnings

import pyarrow.parquet as parquet
import pytest

from inverse.robustness import Sweep, store
from inverse.robustness.cells import versions
from inverse.robustness.grid import FORMAT
from inverse.robustness.store import Store

DIGEST = "0123"
ROW = {
    "key": "abc",
    "problem": "circle",
    "prior": "generic",
    "sampler": "langevin",
    "error": "bias",
    "sigma": 0.1,
    "seed": 1,
    "amplitude": 0.3,
    "distance": 0.123456789,
    "shift": None,
    "status": "ok",
    "message": "",
    "n": 16,
    "format": 1,
    "torch": "2.0",
}


def opened(folder):
    return Store(folder, DIGEST, {"n": 16}).opened()


def manifest(folder):
    return json.loads((folder / "sweep.json").read_text())


@pytest.mark.parametrize(
    "left",
    [(), (".lock",), ("rows/",), (".lock", ".sweep.json.4711"), (".sweep.json.4711", "rows/"), (".lock", "rows/")],
    ids=lambda left: " and ".join(left) or "nothing",
)
def test_a_folder_that_a_run_was_killed_in_before_it_began_is_an_empty_one(left, tmp_path):
    for name in left:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text('{"form')
    with opened(tmp_path) as found:
        assert manifest(tmp_path) == {"format": FORMAT, "digest": DIGEST, "versions": versions(), "n": 16}
        found.write(ROW)
    with opened(tmp_path) as found:
        assert found.read() == [ROW]


@pytest.mark.parametrize("name", ["thesis.tex", "rows/thesis.tex", ".sweep.json", ".hidden"])
def test_a_folder_with_files_of_others_is_refused_and_left_as_it_was(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("all of it")
    sentence = f"out must be an empty folder or one of this sweep, got other files in {tmp_path}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"), opened(tmp_path):
        pass
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path] and path.read_text() == "all of it"


def test_killed_before_any_of_its_file_operations_the_next_run_goes_on(tmp_path):
    """A child ends at its k-th operation on the folder, without any clean-up, as by kill -9; for every k."""
    survived = 0
    for k in range(1, 100):
        folder = tmp_path / str(k)
        child = os.fork()
        if not child:
            _die_before(k, folder)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with opened(folder) as found:
            assert found.read() in ([], [ROW]) and manifest(folder)["digest"] == DIGEST
            found.write(ROW)
            assert found.read() == [ROW]
        survived += ended == 0
        if survived:
            break
    assert survived and k > 5


def _die_before(k, folder):
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event in ("open", "os.mkdir", "os.rename", "os.remove") and str(folder) in str(arguments[0]):
            count += 1
            if count == k:
                os._exit(9)

    try:
        sys.addaudithook(hook)
        with opened(folder) as found:
            found.write(ROW)
        os._exit(0)
    finally:
        os._exit(1)


def test_of_two_first_starts_on_one_folder_one_begins_and_the_other_is_told(tmp_path, monkeypatch):
    write, told = store._write, []

    def while_it_is_written(path, content):
        other = Store(tmp_path / "out", "4567", {})
        with pytest.raises(ValueError) as refused, other.opened():
            pass
        told.append(str(refused.value))
        write(path, content)

    monkeypatch.setattr(store, "_write", while_it_is_written)
    with opened(tmp_path / "out"):
        pass
    assert told == [f"out must not be in use by another run, got {tmp_path / 'out'}"]
    assert manifest(tmp_path / "out")["digest"] == DIGEST


def test_a_folder_of_another_version_is_refused_and_can_still_be_read(tmp_path, monkeypatch):
    with opened(tmp_path) as found:
        found.write(ROW)
    now = versions()
    monkeypatch.setattr(store, "versions", lambda: now | {"torch": "3.0", "deepinv": "1.0"})
    sentence = (
        f"out must hold results of torch 3.0, deepinv 1.0, got those of torch {now['torch']}, "
        f"deepinv {now['deepinv']} in {tmp_path}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"), opened(tmp_path):
        pass
    assert len(Sweep.load(tmp_path)) == 1 and manifest(tmp_path)["versions"] == now


def test_a_folder_that_names_no_versions_is_of_an_older_one(tmp_path):
    with opened(tmp_path):
        pass
    about = manifest(tmp_path)
    del about["versions"]
    (tmp_path / "sweep.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"^out must hold results of scorefold .*, got those of an older version in "):
        with opened(tmp_path):
            pass


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 1}', b'{"digest": "0123", "format": 1, "versions": 3}'])
def test_a_manifest_that_cannot_be_read_is_refused(content, tmp_path):
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^out must be a folder of this sweep, got an unreadable .*sweep\.json$"):
        with opened(tmp_path):
            pass


def test_a_row_with_one_bit_flipped_is_read_as_it_was_written_or_moved_aside(tmp_path):
    with opened(tmp_path) as found, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.write(ROW)
        path = tmp_path / "rows" / "abc.parquet"
        content, aside = path.read_bytes(), 0
        for position in range(0, 8 * len(content), 41):  # all bits of a byte in turn
            path.write_bytes(_flipped(content, position))
            rows = found.read()
            assert rows in ([], [ROW]), f"bit {position}"
            aside += not rows
    assert aside > 8 * len(content) / 41 / 3  # much of a file counts


def _flipped(content, position):
    flipped = bytearray(content)
    flipped[position // 8] ^= 1 << position % 8
    return bytes(flipped)


def test_results_with_a_row_that_was_changed_are_not_loaded(tmp_path):
    with opened(tmp_path) as found:
        found.write(ROW)
    path = tmp_path / "rows" / "abc.parquet"
    table = parquet.read_table(path)
    distance = table.schema.get_field_index("distance")
    changed = table.set_column(distance, table.schema.field(distance), [[0.5]])
    parquet.write_table(changed, path)
    with pytest.raises(ValueError, match=r"folder must hold rows that can be read, got .*abc\.parquet"):
        Sweep.load(tmp_path)
    # rows of an older version carry no checksum
    parquet.write_table(changed.replace_schema_metadata(None), path)
    assert Sweep.load(tmp_path).table["distance"].item() == 0.5
