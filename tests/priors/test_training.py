"""Training: its loss falls, its random numbers follow from the seed, and interrupted runs end like whole ones."""

import gzip
import json
import math
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import priors
from priors import checkpoint, training
from priors.crops import Crops
from priors.data_sets import Ahead, Images
from priors.training import Schedule

NETWORK = {"channels": (4, 8), "encoder_blocks": (1,), "decoder_blocks": (1,), "middle_blocks": 1, "features": 8}
SCHEDULE = Schedule(images=12 * 8, batch=8, warm_up=16)


def data(n=20):
    return torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def fit(out, schedule=SCHEDULE, **options):
    network = NETWORK | {"classes": 2} if "labels" in options else NETWORK
    return training.fit(data(), data(4), out, schedule, network=network, progress=False, **options)


def state(run):
    """Everything that the next step depends on."""
    tensors = dict(run.prior.network.named_parameters())
    moments = {f"{key} {name}": value for name, p in tensors.items() for key, value in run.optimizer.state[p].items()}
    averages = {f"average {name}": value for name, value in run.average.items()}
    return {name: value.detach().clone() for name, value in (tensors | moments | averages).items()}


def assert_same(run, other):
    first, second = state(run), state(other)
    assert run.step == other.step
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_learns_what_the_covariance_does_not_tell(tmp_path):
    # Images of one constant value, 0.2 or 0.8: the values at 64 pixels together give it away.
    values = torch.tensor([0.2, 0.8]).repeat(32).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    schedule = Schedule(images=120 * 32, batch=32, warm_up=320, learning_rate=5e-3, sigma_range=(0.01, 10.0))
    run = training.fit(values, values, tmp_path, schedule, network=NETWORK, progress=False)
    errors = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["held_out"]
    variance = 0.3**2
    # Pixel by pixel no denoiser that is linear does better than this; the averaged weights must, by far.
    assert errors["0.5"] < 0.5 * variance * 0.25 / (variance + 0.25)
    with run.averaged() as prior:
        assert prior.mean == pytest.approx(0.5, abs=1e-6)
        assert prior.std == pytest.approx(0.3, rel=0.01)


def test_labels_tell_what_noise_hides(tmp_path):
    # Images of one constant value, 0.2 or 0.8, told by the label: at sigma 5 the 64 pixels tell next to nothing of it.
    labels = torch.arange(64) % 2
    values = torch.tensor([0.2, 0.8])[labels].reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    schedule = Schedule(
        images=250 * 32, batch=32, warm_up=320, learning_rate=5e-3, sigma_range=(0.01, 10.0), uniform=0.5
    )
    plain = fit(tmp_path / "plain").prior
    run = training.fit(
        values,
        values,
        tmp_path / "told",
        schedule,
        network={**NETWORK, "classes": 2},
        labels=(labels, labels),
        first=plain,
        progress=False,
    )
    line = json.loads((tmp_path / "told" / "log.jsonl").read_text().splitlines()[-1])
    variance = 0.3**2
    mean_of_pixels = 25 / 64  # the variance of the noise in the only thing that tells
    best = variance * mean_of_pixels / (variance + mean_of_pixels)  # of linear denoisers without the label
    assert line["held_out_given_labels"]["5"] < 0.25 * best
    assert line["held_out"]["5"] > 0.5 * best
    assert run.average["labels.weight"][2].abs().max() == 0


def test_conditional_run_starts_from_the_prior_it_is_given(tmp_path):
    prior = fit(tmp_path).prior
    run = training.start(Images(data()), SCHEDULE, {**NETWORK, "classes": 2}, "cpu", first=prior)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    run.prior.mean, run.prior.std = prior.mean, prior.std
    torch.testing.assert_close(run.prior.denoise(x, 0.2), prior.denoise(x, 0.2))
    torch.testing.assert_close(run.prior.given(1).denoise(x, 0.2), prior.denoise(x, 0.2))


def test_conditional_run_cannot_start_from_a_prior_without_weights(tmp_path):
    write_fashion_mnist(tmp_path, 16)
    message = "first must be a learned prior, whose weights a run can start from, got TotalVariation"
    with pytest.raises(ValueError, match=message):
        training.train(tmp_path / "run", tmp_path, images=8, batch=8, conditional=True, first="tv", progress=False)
    assert not (tmp_path / "run").exists()


def test_labels_are_those_of_the_images_and_some_are_dropped():
    schedule = Schedule(images=1, batch=2000, label_dropout=0.25)
    images, labels = torch.arange(20.0).reshape(20, 1, 1, 1), torch.arange(20)
    shown, told = Images(images).batch(2000, 0, 3).flatten(), training.labels_of(labels, 20, schedule, 3)
    kept = told != 20
    assert torch.equal(told[kept], shown[kept].long())
    # 2,000 coins: five standard deviations, wrong once in a million.
    assert float((~kept).double().mean()) == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / 2000))


@pytest.mark.parametrize("told", [{}, {"labels": (torch.arange(20) % 2, torch.arange(4) % 2)}])
def test_interrupted_and_resumed_is_bit_identical(told, tmp_path, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    whole = fit(tmp_path / "whole", **told)
    assert whole.step == 12 and not whole.stopped

    advance = training.advance

    def interrupted(run, *rest):
        if run.step == 5:
            signal.raise_signal(signal.SIGINT)  # in the middle of a step, which is finished first
        return advance(run, *rest)

    monkeypatch.setattr(training, "advance", interrupted)
    first = fit(tmp_path / "parts", **told)
    assert first.step == 6 and first.stopped
    monkeypatch.setattr(training, "advance", advance)
    assert_same(fit(tmp_path / "parts", **told), whole)
    assert signal.getsignal(signal.SIGINT) is handler


def crops():
    images = torch.randint(0, 256, (3, 3, 20, 18), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Crops(list(images), size=8, scales=(1.0, 0.5))


def fit_crops(out, **options):
    design = {**NETWORK, "attention": False, "local": True}
    held_out = {"held_out": crops().of(3, 4, 0), "held_out_grey": crops().of(1, 4, 0)}
    settings = {"size": 8}
    options = {"network": design, "settings": settings, "progress": False, **options}
    return training.fit(Ahead(crops()), held_out, out, SCHEDULE, **options)


def test_killed_and_resumed_run_on_crops_is_bit_identical(tmp_path, monkeypatch):
    whole = fit_crops(tmp_path / "whole")
    assert whole.prior.image_shape is None and whole.prior.network.image_channels == (1, 3)
    # Grey and colour were both seen: both ends of the network have left their start.
    assert all(layer.weight.abs().max() > 0 for layer in whole.prior.network.conv_out.values())
    advance = training.advance

    def crashing(run, *rest):
        if run.step == 7:
            raise MemoryError
        return advance(run, *rest)

    monkeypatch.setattr(training, "advance", crashing)
    with pytest.raises(MemoryError):
        fit_crops(tmp_path / "parts", checkpoint_seconds=0.0)
    monkeypatch.setattr(training, "advance", advance)
    assert_same(fit_crops(tmp_path / "parts"), whole)
    with pytest.raises(ValueError, match="a new folder for a run with size 16: .* was made with 8"):
        fit_crops(tmp_path / "parts", settings={"size": 16})


def test_crops_are_looked_at_whenever_errors_are_measured(tmp_path):
    seen = []
    fit_crops(tmp_path, look=lambda prior, step: seen.append((step, prior.training)), evaluate_images=1)
    assert seen == [(step, False) for step in range(1, 13)]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 12 and lines[-1]["held_out"].keys() == lines[-1]["held_out_grey"].keys()


def test_a_crash_loses_the_steps_since_the_checkpoint_only(tmp_path, monkeypatch):
    whole = fit(tmp_path / "whole")
    advance = training.advance

    def crashing(run, *rest):
        if run.step == 8:
            raise MemoryError
        return advance(run, *rest)

    monkeypatch.setattr(training, "advance", crashing)
    with pytest.raises(MemoryError):
        fit(tmp_path / "parts", checkpoint_seconds=0.0)
    about, _ = checkpoint.read(tmp_path / "parts" / training.CHECKPOINT)
    assert about["step"] == 8
    monkeypatch.setattr(training, "advance", advance)
    assert_same(fit(tmp_path / "parts"), whole)


def test_killed_in_the_middle_of_anything(tmp_path):
    code = f"""
        import torch
        from priors.training import Schedule, fit
        torch.set_num_threads(1)
        data = torch.rand(20, 1, 8, 8)
        network = {NETWORK}
        fit(data, data, {str(tmp_path)!r}, Schedule(images=10**9, batch=8), network=network, checkpoint_seconds=0.0)
    """
    root = str(Path(priors.__file__).parents[1])
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=root, stderr=subprocess.DEVNULL)
    saved = tmp_path / training.CHECKPOINT
    deadline = time.monotonic() + 60
    while not saved.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    about, tensors = checkpoint.read(saved)
    assert about["step"] > 0
    assert all(bool(torch.isfinite(value).all()) for value in tensors.values())


def test_seed_is_all_there_is_to_chance(tmp_path):
    torch.manual_seed(1)
    first = fit(tmp_path / "a")
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = fit(tmp_path / "b")
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(first, second)
    other = fit(tmp_path / "c", Schedule(images=96, batch=8, warm_up=16, seed=1))
    assert not torch.equal(other.average["conv_in.weight"], first.average["conv_in.weight"])


def test_every_epoch_shows_every_image_once():
    images = torch.arange(20.0).reshape(20, 1, 1, 1)
    shown = torch.cat([Images(images).batch(8, 0, step) for step in range(5)]).flatten()
    assert len(shown) == 40
    assert sorted(shown[:20].tolist()) == sorted(shown[20:].tolist()) == list(range(20))
    assert shown[:20].tolist() != shown[20:].tolist()


def test_noise_levels_are_stratified():
    schedule = Schedule(images=1, batch=1000)
    levels = training.noise_levels(schedule, 0)
    assert levels.shape == (1000,)
    low, high = schedule.sigma_range
    uniform, normal = levels[:150], levels[150:]
    # One in each of the n equal parts of its law: the k-th lies between the quantiles k/n and (k + 1)/n.
    places = (uniform.log() - math.log(low)) / math.log(high / low) * 150
    assert torch.equal(places.floor().long(), torch.arange(150))
    places = torch.special.ndtr((normal.double().log() - math.log(0.2)) / 1.3) * 850
    assert ((places - torch.arange(850) - 0.5).abs() <= 0.5 + 1e-3)[5:-5].all()
    assert (levels >= low).all() and (levels <= high).all()
    assert torch.equal(levels, training.noise_levels(schedule, 0))
    assert not torch.equal(levels, training.noise_levels(schedule, 1))


def test_small_batches_have_their_share_of_uniform_noise_levels_on_average():
    # Log-normal ones of this law lie below 0.5, but for one in 2e-6; uniform ones above it with probability 0.479.
    schedule = Schedule(images=1, batch=4, uniform=0.1, sigma_median=0.1, sigma_spread=0.35)
    levels = torch.stack([training.noise_levels(schedule, step) for step in range(2000)])
    expected = 0.1 * math.log(80 / 0.5) / math.log(80 / 0.002)
    # 800 uniform ones are expected: five standard errors of a binomial share of 8000.
    assert abs(float((levels > 0.5).float().mean()) - expected) < 5 * math.sqrt(expected / 8000)


def test_learning_rate_rises_and_falls():
    schedule = Schedule(images=1000, batch=10, warm_up=100, learning_rate=0.5)
    assert schedule.rate(0, 0.0) == pytest.approx(0.05)
    assert schedule.rate(90, 0.0) == pytest.approx(0.5)
    assert schedule.rate(500, 0.5) == pytest.approx(0.25)
    assert schedule.rate(1000, 1.0) == pytest.approx(0.0)
    # Of a short run the rise takes a share: half of it after half of that.
    short = Schedule(minutes=1, batch=10, warm_up=10**6, warm_up_share=0.1, learning_rate=0.5)
    assert short.rate(0, 0.05) == pytest.approx(0.25 * (1 + math.cos(0.05 * math.pi)) / 2)


def test_errors_are_measured_after_as_many_images_and_later_twice_a_half_life():
    schedule = Schedule(images=1, batch=10, half_life=0.04)
    # The gap grows from `every` at the start to 2% of the images seen: as the root of the sum of their squares.
    for images in (0, 2_000, 50_000, 10**7):
        gap = math.hypot(100, 0.02 * images)
        for times in (1, 5):
            more = schedule.measures(images + round(times * gap), 100) - schedule.measures(images, 100)
            assert times - 1 <= more <= times
            assert (
                schedule.measures(images + round(1.1 * times * gap + 1), 100) >= schedule.measures(images, 100) + times
            )


def test_average_forgets_half_in_a_fraction_of_the_run():
    schedule = Schedule(images=1, batch=1, half_life=0.01)
    assert math.prod(schedule.keep(100_000) for _ in range(1000)) == pytest.approx(0.5)
    # At the start it is half of the newest weights, whatever the length of the run.
    assert schedule.keep(1) == 0.5


def test_clock_or_count_ends_the_run():
    assert Schedule(minutes=2).progress(10**9, 60) == 0.5
    assert Schedule(images=200).progress(100, 1e9) == 0.5
    assert Schedule(images=200).progress(300, 0) == 1.0
    for lengths in ({}, {"images": 1, "minutes": 1}):
        with pytest.raises(ValueError, match="exactly one of the two"):
            Schedule(**lengths)


@pytest.mark.parametrize("wrong", [{"images": 0}, {"minutes": -1.0}, {"images": 1, "batch": 0}, {"minutes": math.nan}])
def test_lengths_that_are_none(wrong):
    with pytest.raises(ValueError, match="must be finite and above 0"):
        Schedule(**wrong)


def test_run_by_the_clock_goes_on_from_the_time_it_had(tmp_path):
    fit(tmp_path)
    about, _ = checkpoint.read(tmp_path / training.CHECKPOINT)
    again = fit(tmp_path, Schedule(minutes=about["seconds"] / 60 + 0.005, batch=8))
    assert again.step > 12
    assert again.seconds >= about["seconds"] + 0.3


def test_settings_may_not_change_under_way(tmp_path):
    fit(tmp_path)
    with pytest.raises(ValueError, match="a new folder for a run with batch 16: .* was made with 8"):
        fit(tmp_path, Schedule(images=96, batch=16))
    with pytest.raises(ValueError, match="a new folder for a run with seed 3"):
        fit(tmp_path, Schedule(images=96, batch=8, seed=3))
    with pytest.raises(ValueError, match="a new folder for a run with network"):
        training.fit(data(), data(), tmp_path, SCHEDULE, network={**NETWORK, "features": 16}, progress=False)


@pytest.mark.parametrize("value", [0.5, math.nan, math.inf])
def test_data_to_learn_nothing_from(tmp_path, value):
    with pytest.raises(ValueError, match="data must be finite and vary"):
        training.fit(torch.full((4, 1, 8, 8), value), data(), tmp_path, SCHEDULE, network=NETWORK, progress=False)


def test_foreign_checkpoint_is_refused(tmp_path):
    path = tmp_path / training.CHECKPOINT
    torch.save({"step": 1}, path)
    with pytest.raises(ValueError, match="got a pickle, which is never loaded"):
        fit(tmp_path)
    path.write_bytes(b"\x10\0\0\0")
    with pytest.raises(ValueError, match="is truncated or of another kind"):
        fit(tmp_path)


def test_log_forgets_what_the_checkpoint_does_not_know(tmp_path):
    fit(tmp_path)
    log = tmp_path / "log.jsonl"
    known = log.read_text()
    log.write_text(known + '{"step": 99}\n' + '{"step": 1')
    training.keep_log(log, 12)
    assert log.read_text() == known
    line = json.loads(known)
    assert line["step"] == 12 and line["images"] == 96
    assert set(line["held_out"]) == {f"{sigma:g}" for sigma in training.HELD_OUT_SIGMAS}


def test_held_out_error_of_an_untrained_prior(tmp_path):
    clean = torch.randn(100, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    run = training.start(Images(clean), SCHEDULE, NETWORK, "cpu")
    for sigma, error in training.held_out_errors(run.prior, clean, seed=0).items():
        # A network that starts at zero shrinks towards the mean: the linear denoiser. 6,400 squares of normal numbers
        # have a standard error of sqrt(2 / 6400) = 0.018; five of them for each of eight levels: wrong once in 200,000.
        linear = float(sigma) ** 2 * run.prior.std**2 / (float(sigma) ** 2 + run.prior.std**2)
        assert error == pytest.approx(linear, rel=5 * math.sqrt(2 / 6400))


def write_fashion_mnist(folder: Path, n: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)
    for prefix in ("train", "t10k"):
        images = struct.pack(">4BIII", 0, 0, 8, 3, n, 28, 28) + pixels.tobytes()
        labels = struct.pack(">4BI", 0, 0, 8, 1, n) + bytes(n)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


def test_command_trains_resumes_and_exports(tmp_path, capsys):
    write_fashion_mnist(tmp_path, 16)
    out = tmp_path / "run"
    options = ["--data", str(tmp_path), "--out", str(out), "--batch", "8", "--seed", "5"]
    assert training.main([*options, "--images", "8"]) == 0
    assert training.main([*options, "--images", "16"]) == 0
    assert training.main(["--out", str(out), "--export", str(tmp_path / "again.safetensors")]) == 0
    prior, again = priors.load(out / "fashion-28.safetensors"), priors.load(tmp_path / "again.safetensors")
    assert prior.about["images_seen"] == "16" and prior.about["seed"] == "5"
    x = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prior.denoise(x, 0.1), again.denoise(x, 0.1))
    assert "images/s" in capsys.readouterr().err


def test_exported_weights_are_the_average(tmp_path):
    run = fit(tmp_path)
    training.export(tmp_path, tmp_path / "prior.safetensors")
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with run.averaged() as prior:
        expected = prior.denoise(x, 0.2)
    torch.testing.assert_close(priors.load(tmp_path / "prior.safetensors").denoise(x, 0.2), expected)
    assert not torch.allclose(run.prior.denoise(x, 0.2), expected)


def best_at(step, monkeypatch, interrupts=()):
    """Training whose averages are best after that step, by far; the averages after every step.

    The target of the network is of unit size, and so is what it does not learn here of images that are noise: a bias of
    b in its last layer makes the error 1 + b^2 times as large, at every noise level.
    """
    advance, averages = training.advance, {}

    def doctored(run, *rest):
        if run.step in interrupts:
            interrupts.remove(run.step)
            signal.raise_signal(signal.SIGINT)
        loss = advance(run, *rest)
        run.average["conv_out.bias"].fill_(abs(run.step - step))
        averages[run.step] = {name: value.clone() for name, value in run.average.items()}
        return loss

    monkeypatch.setattr(training, "advance", doctored)
    return averages


def exported(folder):
    training.export(folder, folder / "prior.safetensors")
    return priors.load(folder / "prior.safetensors")


def test_weights_before_a_run_went_wrong_are_kept(tmp_path, monkeypatch):
    averages = best_at(7, monkeypatch)
    fit(tmp_path, evaluate_images=1)
    prior = exported(tmp_path)
    assert prior.about["weights_of_step"] == "7" and prior.about["steps"] == "12"
    weights = dict(prior.network.named_parameters())
    assert all(torch.equal(weights[name], value) for name, value in averages[7].items())


def test_a_resumed_run_knows_its_best_without_the_log(tmp_path, monkeypatch):
    best_at(4, monkeypatch, interrupts=[9])
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    assert fit(parts, evaluate_images=1).stopped
    (parts / "log.jsonl").unlink()
    assert fit(parts, evaluate_images=1).step == fit(whole, evaluate_images=1).step == 12
    one, other = exported(parts), exported(whole)
    assert one.about["weights_of_step"] == other.about["weights_of_step"] == "4"
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    # Another run in the same folder has a best of its own.
    (parts / training.CHECKPOINT).unlink()
    fit(parts, Schedule(images=8, batch=8, warm_up=16))
    assert exported(parts).about["steps"] == "1" and "weights_of_step" not in exported(parts).about


def test_command_says_how_to_get_the_data(tmp_path, capsys):
    assert training.main(["--out", str(tmp_path / "run"), "--data", str(tmp_path), "--images", "1"]) == 2
    message = capsys.readouterr().err
    assert "dataset-fashion-mnist" in message and "MIT" in message
    assert not (tmp_path / "run").exists()


def test_interrupted_command_says_so(tmp_path, monkeypatch, capsys):
    write_fashion_mnist(tmp_path, 16)
    advance = training.advance

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return advance(*arguments)

    monkeypatch.setattr(training, "advance", interrupted)
    options = ["--out", str(tmp_path / "run"), "--data", str(tmp_path), "--images", "160", "--batch", "8"]
    assert training.main(options) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert priors.load(tmp_path / "run" / "fashion-28.safetensors").about["images_seen"] == "8"


def test_needs_nothing_but_torch_numpy_and_safetensors():
    code = """
        import sys
        absent = ("deepinv", "scipy", "skimage", "PIL", "matplotlib", "tqdm", "operators", "inverse")
        sys.modules.update(dict.fromkeys(absent))  # None: importing one of these raises ImportError
        from priors import store, training
        training.Schedule(images=1)
        store.load("fashion-28")
    """
    root = str(Path(priors.__file__).parents[1])
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=root, check=True)
