"""Settings of Sphinx for the documentation. From the root of the repository, with the extra `docs` installed:

    sphinx-build -W docs docs/_build/html                         # runs the gallery: some minutes
    sphinx-build -W -D plot_gallery=0 docs docs/_build/html       # without

Nothing is fetched, and the pages need no network: search, fonts and styles are in the folder.
"""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))
os.environ.setdefault("MPLBACKEND", "agg")

project = "scorefold"
author = copyright = "the scorefold authors"
version = release = version_of("scorefold")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "docstrings",
    "pages",
]
exclude_patterns = ["_build", "results", "gallery/*.ipynb"]
nitpicky = True
# Types of other packages are named in signatures and not linked: their pages are on the network.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!(operators|priors|inverse)\.).*"),
    # bases and variables of types that are nobody's to use
    (r"py:.*", r"inverse\.robustness\.\w+\.(E|FieldError|FourierError|ManifoldError|Mixed)"),
    (r"py:.*", r".*\._\w+"),
    (r"py:.*", r"priors\.parametrised\.VariancePreserving"),
]

autosummary_generate = True
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

myst_heading_anchors = 3

templates_path = ["_templates"]
html_theme = "furo"
html_title = "scorefold"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": "/",
    "image_scrapers": ("gallery",),
    "within_subsection_order": "gallery.Order",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 10**6,
    "write_computation_times": False,
}
