import csv
import math

import pytest
import torch

import operators
from inverse import report
from inverse.samples import Samples


def make(n=19, noise=0.1, shape=(1, 16, 16), error=0.0):
    """Draws scattered by 0.1 around the truth moved by `error`, and y, which is the truth."""
    truth = torch.full((2, *shape), 0.5)
    x = truth + error + 0.1 * torch.randn(n, 2, *shape, generator=torch.Generator().manual_seed(0))
    physics = operators.create("denoising", shape, noise=noise)
    return Samples(x, 50, 2.0, "mmps", {}, 0, truth), physics, truth


def test_scores_are_means_over_the_measurements():
    samples, physics, truth = make()
    line = report.scores("a", samples, physics, truth)
    # the mean of 19 draws is off by 0.1/sqrt(19); its squared error is pooled over 512 pixels, to 6% (0.3 dB)
    assert line["PSNR"] == pytest.approx(20 + 10 * math.log10(19), abs=5 * 0.3)
    assert line["residual"] == pytest.approx(1, abs=5 / math.sqrt(2 * 512 * 19))
    assert line["expected"] == 0.9
    assert line["coverage 90%"] > 0.9  # a truth in the very middle of its draws
    assert (line["NFE"], line["seconds"]) == (50, 2.0)


def test_what_cannot_be_said_is_nan():
    samples, physics, truth = make(n=1, noise=0.0, shape=(8,))
    line = report.scores("a", samples, physics, truth)
    assert all(math.isnan(line[name]) for name in ("SSIM", "residual", "coverage 90%", "expected"))
    assert not math.isnan(line["PSNR"])
    _, *cells = (cell.strip() for cell in report.markdown([line]).splitlines()[2].strip("|").split("|"))
    assert [cell == "-" for cell in cells] == [False, True, True, True, True, False, False]
    assert "nan" in report.comma_separated([line])  # a spreadsheet wants a number


def test_the_table_in_markdown_is_aligned():
    lines = [report.scores(name, *make(error=error)) for name, error in (("a", 0.0), ("a-longer-name", 0.2))]
    rows = report.markdown(lines).splitlines()
    assert len(rows) == 4
    assert len({len(row) for row in rows}) == 1
    assert {tuple(i for i, c in enumerate(row) if c == "|") for row in rows} == {
        tuple(i for i, c in enumerate(rows[0]) if c == "|")
    }
    assert rows[3].split("|")[1].strip() == "a-longer-name"


def test_the_table_in_csv_keeps_all_digits():
    line = report.scores("a", *make())
    (back,) = csv.DictReader(report.comma_separated([line]).splitlines())
    assert float(back["PSNR"]) == line["PSNR"]
