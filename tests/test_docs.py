"""The documentation site: built without a warning, complete, and readable without a network."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zlib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = ("operators", "priors", "priors.manifolds", "inverse", "inverse.metrics", "inverse.robustness")


@pytest.fixture(scope="module")
def docstrings():
    spec = importlib.util.spec_from_file_location("docstrings", ROOT / "docs" / "_ext" / "docstrings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("|A x| of (B, *image_shape), x_ and `code`s", r"\|A x\| of (B, \*image_shape), x\_ and ``code``\ s"),
        (
            "`psnr` and `inverse.MMPS`",
            ":py:obj:`psnr <inverse.metrics.psnr>` and :py:obj:`inverse.MMPS <inverse.MMPS>`",
        ),
        (
            "x, y: two. n: one. Raises ValueError for 0.",
            "- **x, y**: two.\n\n- **n**: one.\n\nRaises ValueError for 0.",
        ),
        ("    D = x / |y|\n      + 1", "::\n\n    D = x / |y|\n      + 1"),
        ("x: rows:\n    a: first\n    b: second", "- **x**: rows:\n\n  - a: first\n\n  - b: second"),
        ("(1) is no list", r"\(1) is no list"),
    ],
)
def test_docstrings_become_restructured_text(docstrings, text, shown):
    assert "\n".join(docstrings.converted(text, {"x", "y", "n"}, "inverse.reconstruct")).rstrip("\n") == shown


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The pages, warnings as errors, the gallery shown but not run: tests/test_gallery.py runs it.

    Built from a copy, since a build writes pages into the folder of its sources.
    """
    copy = tmp_path_factory.mktemp("site")
    written = shutil.ignore_patterns("_build", "gallery", "generated", "models")
    shutil.copytree(ROOT / "docs", copy / "docs", ignore=written)
    shutil.copytree(ROOT / "examples" / "gallery", copy / "examples" / "gallery")
    shutil.copytree(ROOT / "priors" / "weights", copy / "priors" / "weights")
    shutil.copy(ROOT / "README.md", copy)
    run = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-D", "plot_gallery=0", "docs", "html"],
        cwd=copy,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert run.returncode == 0, run.stdout + run.stderr[-4000:]
    return copy / "html"


def documented(site: Path) -> set[str]:
    """Names of the inventory, a zlib stream of lines "name role ..." behind four lines in plain text."""
    stream = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split()[0] for line in zlib.decompress(stream).decode().splitlines() if " py:" in line}


def public(name: str) -> set[str]:
    """Names that a module exports; `inverse.metrics`, which has no list, exports its functions."""
    module = import_module(name)
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == name and key[0] != "_"]
    return {f"{name}.{key}" for key in getattr(module, "__all__", own)}


@pytest.mark.slow
def test_every_public_name_has_its_place(site):
    names = set().union(*(public(module) for module in MODULES))
    assert {"inverse.MMPS", "inverse.metrics.psnr", "priors.manifolds.Circle", "inverse.robustness.sweep"} <= names
    assert names - documented(site) == set()


@pytest.mark.slow
def test_nothing_comes_from_the_network(site):
    pages = {page: page.read_text() for page in site.rglob("*.html")}
    assert len(pages) > len(MODULES)
    fetched = r"<(?:script|link|img|iframe|source|video)\b[^>]*?(?:src|href|srcset)=[\"']?(?:https?:)?//[^>]*>"
    assert [(page.name, found) for page, text in pages.items() for found in re.findall(fetched, text)] == []
    styles = {sheet: sheet.read_text() for sheet in site.rglob("*.css")}
    assert styles
    assert [
        sheet.name for sheet, text in styles.items() if re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", text)
    ] == []


@pytest.mark.slow
def test_guides_and_gallery_are_in_it_and_can_be_searched(site):
    cards = ("models/fashion-28", "models/digits-28")
    for page in ("index", "robustness", "networks", "results", "search", "gallery/index", *cards):
        assert (site / f"{page}.html").is_file(), page
    for script in (ROOT / "examples" / "gallery").glob("*.py"):
        assert (site / "gallery" / f"{script.stem}.html").is_file(), script.stem
    index = (site / "searchindex.js").read_text()
    for word in ("breakdown", "inpaint", "MaximumEntropy"):
        assert word.lower() in index.lower(), word


@pytest.mark.slow
def test_docstrings_are_shown_as_they_are_meant(site):
    text = re.sub(r"<[^>]+>", "", (site / "api" / "generated" / "inverse.metrics.psnr.html").read_text())
    assert "-10 log10 of the mean squared error" in text
    assert "truth: (B, *image_shape)" in text
