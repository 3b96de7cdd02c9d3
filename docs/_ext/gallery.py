"""The gallery: its order, and its figures, which its scripts write into the folder where they run."""

import shutil
from pathlib import Path

ORDER = (
    "first_reconstruction",
    "own_operator",
    "own_network",
    "choosing_a_sampler",
    "how_wrong_may_the_score_be",
    "reading_the_posterior",
)


class Order:
    """As in ORDER; scripts that are not in it come last, by name."""

    def __init__(self, source=""):
        self.source = source

    def __call__(self, file):
        name = Path(file).stem
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)

    def __repr__(self):
        return "Order()"


def _get_sg_image_scraper():
    return take


def take(block, block_vars, gallery_conf):
    """Move what a cell has written into its page."""
    from sphinx_gallery.scrapers import figure_rst

    written = sorted(Path.cwd().glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    places = [shutil.move(picture, next(block_vars["image_path_iterator"])) for picture in written]
    return figure_rst(places, gallery_conf["src_dir"])
