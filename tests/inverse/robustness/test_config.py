"""A sweep from a YAML file: what is in it comes out, what is not known is refused with the nearest known name."""

import textwrap

import pytest

from inverse import Langevin
from inverse.command import main
from inverse.robustness import GradientError, TangentialError
from inverse.robustness.config import read
from priors import MaximumEntropy

CONFIG = """
problems: {circle: {operator: matrix, options: {matrix: [[1.0, 0.0]]}, noise: 0.5, y: [[0.3]]}}
priors:
  generic: {manifold: Circle, von_mises_fisher: {direction: [-1, 0], kappa: 4}}
  geometric: {of: generic, alpha: 0.5}
samplers: {langevin: {name: langevin, steps: 30, anneal_steps: 10}}
errors:
  gradient: {name: GradientError, length_scale: 2}
  tangential: {name: TangentialError, manifold: generic, seed: 3}
amplitudes: [0.1, 10]
sigmas: [0.1, 0.2]
seeds: 2
n: 20
"""


@pytest.fixture
def config(tmp_path):
    def write(text=CONFIG):
        path = tmp_path / "grid.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def test_objects_are_those_of_the_file(config):
    grid = read(config())
    geometric = grid["priors"]["geometric"]
    assert isinstance(geometric, MaximumEntropy) and geometric.alpha == 0.5
    assert geometric.prior is grid["priors"]["generic"] and geometric.prior.log_density.kappa == 4
    assert grid["samplers"] == {"langevin": Langevin(steps=30, anneal_steps=10)}
    assert grid["errors"]["gradient"] == GradientError(length_scale=2)
    assert isinstance(grid["errors"]["tangential"], TangentialError) and grid["errors"]["tangential"].seed == 3
    assert grid["problems"]["circle"].y.tolist() == [[pytest.approx(0.3)]]
    assert (grid["amplitudes"], grid["sigmas"], grid["seeds"], grid["n"]) == ([0.1, 10.0], [0.1, 0.2], [0, 1], 20)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("amplitudes:", "amplitude:", "config must have fields of .* got 'amplitude'; did you mean 'amplitudes'"),
        ("seeds: 2", "workers: 2", "config must have fields of .*, got 'workers'"),
        ("sigmas: [0.1, 0.2]", "sigmas: []", "sigmas must not be empty"),
        ("sigmas: [0.1, 0.2]", "sigmas: 0.1", "sigmas must be a list of numbers, got 0.1"),
        ("sigmas: [0.1, 0.2]", "", "config must have the field sigmas"),
        ("GradientError", "GradientEror", "gradient must be one of .*, got 'GradientEror'; did you mean 'GradientErr"),
        ("length_scale", "lenght_scale", "gradient must have fields of .*did you mean 'length_scale'"),
        ("manifold: Circle", "manifold: Circel", "generic must be one of .*did you mean 'Circle'"),
        ("of: generic", "of: genric", "geometric must be of a prior above it, got 'genric'; did you mean 'generic'"),
        ("name: langevin", "name: langevine", "sampler must be one of .*did you mean 'langevin'"),
        ("y: [[0.3]]", "seed: 1", "circle must have either y or images, got neither"),
        ("operator: matrix", "operator: matrx", "matrix"),
        (CONFIG, "a: [", "config must be YAML"),
        (CONFIG, "- 3", "config must be a mapping"),
    ],
)
def test_what_is_not_known_is_refused_in_one_sentence(config, capsys, tmp_path, old, new, sentence):
    import re

    path = config(CONFIG.replace(old, new, 1))
    assert main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert re.search(sentence, err) and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_command_writes_report_and_tables_and_goes_on(config, capsys, tmp_path):
    out = tmp_path / "out"
    assert main(["sweep", str(config()), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "the posterior moves by more than 10% of its spread with generic" in told and "32 cells, 0 of them" in told
    assert {path.name for path in out.glob("*.*")} >= {"report.html", "report-curves.png", "rate.csv", "breakdown.csv"}
    rows = {path: path.stat().st_mtime_ns for path in out.glob("rows/*.parquet")}
    assert len(rows) == 32
    assert main(["sweep", str(config()), "--out", str(out)]) == 0
    assert rows == {path: path.stat().st_mtime_ns for path in out.glob("rows/*.parquet")}


def test_a_file_that_is_not_there(capsys, tmp_path):
    assert main(["sweep", str(tmp_path / "no.yaml")]) == 2
    assert "config must be a YAML file, and there is none at" in capsys.readouterr().err
