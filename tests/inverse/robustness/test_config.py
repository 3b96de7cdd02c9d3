"""A sweep from a YAML file: what is in it comes out, what is not known is refused with the nearest known name."""

import json
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from inverse import Langevin
from inverse.command import main
from inverse.robustness import DensityError, FewData, GradientError, Sweep, TangentialError, Tuned
from inverse.robustness.config import read
from priors import Empirical, MaximumEntropy, store

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
IMAGES = """
problems: {noisy: {operator: denoising, noise: 0.3, images: [truth.npy]}}
priors: {all: {images: [train.npy], bandwidth: 0.1}}
samplers: {langevin: {name: langevin, steps: 10, anneal_steps: 5}}
errors: {few: {name: FewData, images: 3}}
amplitudes: [0.5, 1]
sigmas: [0.1]
seeds: 1
n: 4
"""
PAGE = Path(__file__).parents[3] / "docs" / "robustness.md"


@pytest.fixture
def config(tmp_path):
    def write(text=CONFIG):
        path = tmp_path / "grid.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def documented():
    """The entries that docs/robustness.md shows, by field and name."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return yaml.safe_load(block)


@pytest.fixture
def files(tmp_path):
    """What the entries read: 120 images of 8 x 8, a truth among them, and the weights of two small networks."""
    images = np.random.default_rng(0).random((120, 1, 8, 8), dtype=np.float32)
    np.save(tmp_path / "train.npy", images)
    np.save(tmp_path / "truth.npy", images[:1])
    network = {"channels": (4, 8), "encoder_blocks": (1,), "decoder_blocks": (1,), "middle_blocks": 1, "features": 8}
    design = {"network": network, "mean": 0.5, "std": 0.3, "image_shape": (1, 8, 8), "sigma_range": (0.01, 10.0)}
    for seed, name in enumerate(("last", "early")):
        prior = store.build(design, seed)
        torch.nn.init.normal_(prior.network.conv_out.weight, generator=torch.Generator().manual_seed(seed))
        store.save(prior, tmp_path / f"{name}.safetensors")
    return tmp_path


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
        (CONFIG[CONFIG.index("priors") : CONFIG.index("samplers")], "priors: {}\n", "priors must not be empty"),
        (CONFIG[CONFIG.index("errors") : CONFIG.index("amplitudes")], "errors: {}\n", "errors must not be empty"),
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
        # numbers that are none, or not whole
        ("seeds: 2", "seeds: 2.5", "seeds must be a whole number above 0, or a list of whole numbers, got 2.5"),
        ("seeds: 2", "seeds: abc", "seeds must be a whole number above 0, or a list of whole numbers, got 'abc'"),
        ("seeds: 2", "seeds: true", "seeds must be a whole number above 0, or a list of whole numbers, got True"),
        ("seeds: 2", "seeds: -1", "seeds must be a whole number above 0, or a list of whole numbers, got -1"),
        ("seeds: 2", "seeds: [0.5, 1]", r"seeds must be a list of whole numbers, got \[0.5, 1\]"),
        ("seeds: 2", "seeds: {a: 1}", "seeds must be a whole number above 0, or a list of whole numbers, got {'a': 1}"),
        ("n: 20", "n: abc", "n must be a whole number, got 'abc'"),
        ("n: 20", "n: 2.5", "n must be a whole number, got 2.5"),
        ("[0.1, 10]", "[true]", r"amplitudes must be a list of numbers, got \[True\]"),
        # a key that is there twice, of which YAML would take the last
        ("seeds: 2", "seeds: 2\nseeds: 3", "config must have each key once, got 'seeds' again in line 13"),
        ("kappa: 4", "kappa: 4, kappa: 5", "config must have each key once, got 'kappa' again in line 4"),
        ("gradient:", "1:", "errors must have text as keys, got 1; put it in quotes"),
        # options of nested entries
        ("kappa", "kapa", "von_mises_fisher of generic must have fields of .*got 'kapa'; did you mean 'kappa'"),
        (", kappa: 4", "", "von_mises_fisher of generic must have the field kappa, got direction"),
        ("kappa: 4", "kappa: abc", "von_mises_fisher of generic must have as kappa a number, got 'abc'"),
        ("{direction: [-1, 0], kappa: 4}", "4", "von_mises_fisher of generic must be a mapping, got 4"),
        ("[-1, 0]", "[-1, [0]]", "von_mises_fisher of generic must have as direction a list of numbers, got"),
        ("[-1, 0]", "[-1, 0, 0]", "generic: direction must have 2 entries for .*got 3"),
        ("Circle", "{name: Circle, radus: 2}", "manifold of generic must have fields of radius, got 'radus'; did you"),
        ("Circle", "{name: Circle, radius: a}", "manifold of generic must have as radius a number, got 'a'"),
        ("Circle", "{name: Ellipse, a: 1}", "manifold of generic must have the field b, got a"),
        ("Circle", "{name: Circle, radius: -1}", "generic: radius must be finite and above 0, got -1"),
        ("Circle", "ImageOrbit", "generic: size mismatch"),
        ("Circle", "[Circle]", r"generic must be one of .*got \['Circle'\]"),
        ("Circle", "{name: Product, factors: [a]}", "manifold of generic must leave factors to .*written in Python"),
        ("alpha: 0.5", "alpha: a", "geometric must have as alpha a number, got 'a'"),
        ("alpha: 0.5", "alpha: 3", r"geometric: alpha must lie in \[0, 2\), got 3"),
        ("kappa: 4}", "kappa: 4}, alpha: 1", "generic must have fields of manifold, von_mises_fisher, got 'alpha'"),
        ("length_scale: 2", "length_scale: a", "gradient must have as length_scale a number, got 'a'"),
        ("length_scale: 2", "length_scale: -2", "gradient: length_scale must be finite and above 0, got -2"),
        ("{matrix: [[1.0, 0.0]]}", "3", "options of circle must be a mapping, got 3"),
        ("{matrix: [[1.0, 0.0]]}", "{matrx: [[1.0]]}", "circle: options of matrix are .*did you mean 'matrix'"),
        ("[[1.0, 0.0]]", "[[1.0], 2]", "circle must have as matrix a list of numbers, got"),
        ("[[0.3]]", "abc", "circle must have as y a list of numbers, got 'abc'"),
        ("y: [[0.3]]", "images: a.png", "circle must have as images a list of files, got 'a.png'"),
        ("[[0.3]]", "[[0.3, 0.4]]", r"circle: y must have shape \(B, 1\) for images of shape \(2,\), got \(1, 2\)"),
        ("[[0.3]]", "[[.nan]]", "circle: y must be finite, got 1 NaN"),
        ("noise: 0.5", "noise: 0.5, image_shape: 2", "circle: image_shape must be a tuple .*, got 2"),
        ("noise: 0.5", "noise: 0.5, seed: a", "circle: seed must be .*, got 'a'"),
        # the prior whose manifold an error is on
        (
            "manifold: generic",
            "manifold: genric",
            "have as manifold a prior on a manifold .generic., got 'genric'; did you mean 'gen",
        ),
        (
            "manifold: generic",
            "manifold: geometric",
            "have as manifold a prior on a manifold .generic., got 'geometric'",
        ),
        (
            "manifold: generic",
            "manifold: [generic]",
            r"have as manifold a prior on a manifold .generic., got \['generic'\]",
        ),
        ("manifold: generic, ", "", "tangential must have the field manifold, got seed"),
        ("seed: 3", "potential: cos", "tangential must leave potential to a sweep written in Python, got 'cos'"),
        # samplers and their trials
        ("steps: 30", "steps: [10, 30]", r"langevin must have one value for steps, got \[10, 30\]; .* under tuned"),
        ("steps: 30", "steps: 0", "langevin: steps must be a whole number of at least 1, got 0"),
        ("steps: 30", "each_error: true", "langevin: langevin takes .*got 'each_error'"),
        ("name: langevin", "name: [langevin]", r"langevin must have as name text, got \['langevin'\]"),
        ("steps: 30", "tuned: 3", "tuned of langevin must be a mapping, got 3"),
        ("steps: 30", "tuned: {step_siz: [1]}", "tuned of langevin must have fields of .*did you mean 'step_size'"),
        ("steps: 30", "tuned: {step_size: 1}", "tuned of langevin must have a list of values for step_size, got 1"),
        ("steps: 30", "tuned: {step_size: [[1]]}", r"must have a list of values for step_size, got \[\[1\]\]"),
        ("steps: 30", "tuned: {step_size: []}", "langevin: options must hold values to try, got"),
        ("steps: 30", "tuned: {step_size: [a]}", "langevin: step_size must be a finite number above 0, got 'a'"),
        ("steps: 30", "tuned: {steps: [9]}, each_error: 1", "langevin must have as each_error true or false, got 1"),
        ("steps: 30", "tuned: {steps: [9]}, seeds: 1", "seeds of langevin must be a list of whole numbers, got 1"),
        ("steps: 30", "tuned: {steps: [19]}, seeds: [1]", "seeds must not be among those that 'langevin' is tuned on"),
        # errors that no prior of the file can have, or that lack what they need
        ("GradientError, length_scale: 2", "WeightNoise", "gradient: prior must have a network's weights for WeightN"),
        ("GradientError, length_scale: 2", "FewData", "gradient: data and bandwidth must be given unless the prior is"),
        ("GradientError, length_scale: 2", "FewData, data: a.npy", "gradient must have as data a list of files, got"),
        ("GradientError, length_scale: 2", "EarlyStopped", "gradient must have the field early, got none"),
        ("GradientError, length_scale: 2", "EarlyStopped, early: 3", "gradient must have as early text, got 3"),
        ("GradientError, length_scale: 2", "EarlyStopped, early: fashion-82", "did you mean 'fashion-28'"),
        ("GradientError, length_scale: 2", "EarlyStopped, early: a.safetensors", "there is no file 'a.safetensors'"),
        ("GradientError, length_scale: 2", "EarlyStopped, early: fashion-28", "gradient: other must be of image shape"),
        (
            "TangentialError",
            "DensityError, target: genric",
            "have as target a prior on a manifold .generic., got 'genric'; did",
        ),
        ("TangentialError", "DensityError, target: {kappa: 1}", "target of tangential must have fields of von_mises"),
        ("TangentialError", "DensityError, target: {}", "target of tangential must have the field von_mises_fisher"),
        ("TangentialError", "DensityError, target: 3", "have as target a prior on a manifold .generic., got 3"),
        ("TangentialError", "DensityError, log_density: generic", "tangential must have fields of .*got 'log_density'"),
        (
            "TangentialError",
            "DensityError, target: {von_mises_fisher: {direction: [1], kappa: 1}}",
            "tangential: direction must have 2 entries for Circle",
        ),
    ],
)
def test_what_is_not_known_is_refused_in_one_sentence(config, capsys, tmp_path, old, new, sentence):
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


def test_seeds_are_a_number_of_them_or_a_list(config):
    assert read(config())["seeds"] == [0, 1]
    assert read(config(CONFIG.replace("seeds: 2", "seeds: [4, 1001]")))["seeds"] == [4, 1001]


def test_numbers_are_read_as_they_are_written_in_science(config):
    assert read(config(CONFIG.replace("[0.1, 10]", "[1e-1, 1.e+1, -2E2, 3]")))["amplitudes"] == [0.1, 10, -200, 3]


def test_a_merged_key_may_be_replaced(config):
    merged = "base: &base {name: GradientError, length_scale: 2}\n  gradient: {<<: *base, length_scale: 3}"
    errors = read(config(CONFIG.replace("gradient: {name: GradientError, length_scale: 2}", merged)))["errors"]
    assert (errors["base"], errors["gradient"]) == (GradientError(length_scale=2), GradientError(length_scale=3))


def tables(path, out):
    """The rows of a sweep from the file, as the command writes them, none of which failed."""
    assert main(["sweep", str(path), "--out", str(out)]) == 0
    table = Sweep.load(out).table
    assert (table["status"] == "ok").all(), table["message"].unique()
    return table


def entry(text, field, name, spec):
    """The text of a config with one entry more, or another one in its place."""
    made = yaml.safe_load(text)
    made[field] = {**made[field], name: spec}
    return yaml.safe_dump(made)


def test_density_error_turns_the_density_of_a_prior_into_that_of_the_file(config, documented, tmp_path):
    path = config(entry(CONFIG, "errors", "density", documented["errors"]["density"]))
    grid = read(path)
    error, prior = grid["errors"]["density"], grid["priors"]["generic"]
    angle = torch.linspace(0, 6, 7, dtype=torch.float64)
    x, along = torch.stack([angle.cos(), angle.sin()], 1), torch.stack([-angle.sin(), angle.cos()], 1)
    # from exp(-4 cos t) to exp(4 cos t): d/dt of the difference is -8 sin t
    assert isinstance(error, DensityError) and error.manifold is prior
    torch.testing.assert_close(error(x, 0.1), -8 * angle.sin()[:, None] * along)
    names = [{"name": "DensityError", "manifold": "generic", **more} for more in ({"target": "generic"}, {})]
    same, uniform = (read(config(entry(CONFIG, "errors", "e", spec)))["errors"]["e"] for spec in names)
    torch.testing.assert_close(same(x, 0.1), torch.zeros_like(x))
    torch.testing.assert_close(uniform(x, 0.1), 4 * (-angle.sin())[:, None] * along)

    made = yaml.safe_load(entry(CONFIG, "errors", "density", documented["errors"]["density"]))
    made |= {"errors": {"density": made["errors"]["density"]}, "sigmas": [0.2], "seeds": 1, "amplitudes": [1]}
    assert len(tables(config(yaml.safe_dump(made)), tmp_path / "out")) == 2


@pytest.mark.parametrize("given", [True, False])
def test_few_data_are_images_of_the_file_or_of_the_prior(config, documented, files, given):
    spec = documented["errors"]["few"] if given else {"name": "FewData", "images": 100}
    path = config(entry(entry(IMAGES, "errors", "few", spec), "priors", "all", documented["priors"]["data"]))
    grid = read(path)
    error, prior = grid["errors"]["few"], grid["priors"]["all"]
    assert isinstance(error, FewData) and error.images == 100 and isinstance(prior, Empirical)
    data = torch.from_numpy(np.load(files / "train.npy"))
    torch.testing.assert_close(prior.means, data)
    wanted = FewData(images=100).perturb(Empirical(data, 0.1)).denoise(data[:3] + 0.3, 0.2)
    torch.testing.assert_close(error.perturb(prior).denoise(data[:3] + 0.3, 0.2), wanted)
    assert len(tables(path, files / "out")) == 2


def test_early_stopped_is_a_prior_beside_the_file(config, documented, files):
    made = yaml.safe_load(entry(IMAGES, "errors", "early", documented["errors"]["early"]))
    made |= {"priors": {"network": {"load": "last.safetensors"}}, "errors": {"early": made["errors"]["early"]}}
    path = config(yaml.safe_dump(made))
    grid = read(path)
    x = torch.rand(2, 1, 8, 8)
    wrong = grid["errors"]["early"].perturb(grid["priors"]["network"])
    assert torch.equal(wrong.denoise(x, 0.2), store.read(files / "early.safetensors").denoise(x, 0.2))
    assert not torch.equal(wrong.denoise(x, 0.2), grid["priors"]["network"].denoise(x, 0.2))
    assert len(tables(path, files / "out")) == 2


def test_tuned_samplers_give_both_columns(config, documented, tmp_path):
    made = yaml.safe_load(CONFIG)
    once, each = documented["samplers"]["once"], documented["samplers"]["each"]
    made |= {"samplers": {"once": once, "each": each}, "priors": {"generic": made["priors"]["generic"]}}
    made |= {"errors": {"gradient": made["errors"]["gradient"]}, "sigmas": [0.2], "seeds": 1}
    path = config(yaml.safe_dump(made))
    options = {"step_size": [0.3, 1, 3]}
    langevin = Langevin(time=4, anneal_steps=50)
    assert read(path)["samplers"] == {
        "once": Tuned(langevin, options),
        "each": Tuned(langevin, options, each_error=True, seeds=(900_000,)),
    }
    table = tables(path, tmp_path / "out")
    assert sorted(table["sampler"].unique()) == ["each", "once"]
    steps = table["hyper"].map(lambda hyper: json.loads(hyper)["step_size"])
    assert set(steps) <= {0.3, 1, 3} and steps[table["sampler"] == "once"].nunique() == 1
