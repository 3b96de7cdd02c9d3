from __future__ import annotations

from pathlib import Path

import pytest

from inverse.files import replacing


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == tmp_path
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
