import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from inverse.samples import Samples


def make(n=4, batch=2, shape=(1, 3, 3), **changes):
    x = torch.randn(n, batch, *shape, generator=torch.Generator().manual_seed(0))
    fields = {
        "x": x,
        "nfe": 50,
        "seconds": 1.5,
        "sampler": "mmps",
        "hyper": {"steps": 50, "sigma_min": 0.002, "mode": "a", "clip": None},
        "seed": 3,
        "y": torch.arange(batch * 5.0).reshape(batch, 5),
        "info": {"prior": "Gaussian", "noise_sigma": [0.05]},
    }
    return Samples(**{**fields, **changes})


def test_mean_and_std_over_the_sample_axis():
    x = torch.tensor([1.0, 2.0, 6.0]).reshape(3, 1, 1)
    samples = make(x=x, y=None)
    assert samples.mean.item() == 3
    assert samples.std.item() == pytest.approx(7**0.5)  # (4 + 1 + 9) / (3 - 1)


def test_std_of_antithetic_samples_is_over_pairs():
    # Pairs (1, 3), (0, 8): half-differences 1 and 4, means 2 and 4.
    x = torch.tensor([1.0, 0.0, 3.0, 8.0]).reshape(4, 1, 1)
    samples = make(x=x, y=None, info={"antithetic": True})
    assert samples.std.item() == pytest.approx(((1 + 16) / 2 + 2) ** 0.5)
    law = torch.randn(2, 20_000, 1, generator=torch.Generator().manual_seed(0))
    pairs = make(x=torch.cat([1 + 3 * law, 1 - 3 * law]), y=None, info={"antithetic": True})
    # The variance over two pairs is that of two squares: five standard errors of its mean over 20,000.
    assert pairs.std.square().mean() == pytest.approx(9, abs=5 * 9 / 20_000**0.5)


def test_one_sample_has_no_std():
    with pytest.raises(ValueError, match="at least 2 samples"):
        _ = make(n=1).std


def test_quantiles_are_linear_between_order_statistics():
    x = torch.tensor([4.0, 0.0, 2.0]).reshape(3, 1, 1)
    samples = make(x=x, y=None)
    assert samples.quantile(0.5).item() == 2
    assert samples.quantile([0.0, 0.25, 0.9, 1.0]).flatten().tolist() == pytest.approx([0, 1, 3.6, 4])
    assert make().quantile(0.3).shape == (2, 1, 3, 3)
    assert make().quantile([0.1, 0.2]).shape == (2, 2, 1, 3, 3)


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan"), [0.5, 2.0]])
def test_quantile_outside_the_unit_interval_is_refused(q):
    with pytest.raises(ValueError, match="q must be"):
        make().quantile(q)


@pytest.mark.parametrize("y", [torch.arange(10.0).reshape(2, 5), None])
def test_save_and_load_give_back_everything(tmp_path, y):
    samples = make(y=y)
    samples.save(tmp_path / "a.safetensors")
    back = Samples.load(tmp_path / "a.safetensors")
    assert torch.equal(back.x, samples.x)
    assert back.y is None if y is None else torch.equal(back.y, y)
    for name in ("nfe", "seconds", "sampler", "hyper", "seed", "info"):
        assert getattr(back, name) == getattr(samples, name)


def test_saving_replaces_a_file_and_leaves_no_other(tmp_path):
    make(seed=1).save(tmp_path / "a.safetensors")
    make(seed=2).save(tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == ["a.safetensors"]
    assert Samples.load(tmp_path / "a.safetensors").seed == 2


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    make(seed=1).save(tmp_path / "a.safetensors")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="cannot be written to .*No space left"):
        make(seed=2).save(tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == ["a.safetensors"]
    assert Samples.load(tmp_path / "a.safetensors").seed == 1


def test_a_folder_that_is_none_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="samples cannot be written to"):
        make().save(tmp_path / "file" / "a.safetensors")


def test_truncated_foreign_and_missing_files_are_refused(tmp_path):
    whole = tmp_path / "whole.safetensors"
    make().save(whole)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-10])
    with pytest.raises(ValueError, match="no complete samples file"):
        Samples.load(cut)
    text = tmp_path / "text.safetensors"
    text.write_text("something else entirely")
    with pytest.raises(ValueError, match="no complete samples file"):
        Samples.load(text)
    torch.save({"x": torch.ones(2)}, tmp_path / "pickle.pt")
    with pytest.raises(ValueError, match="no complete samples file"):
        Samples.load(tmp_path / "pickle.pt")
    save_file({"x": torch.ones(2, 2, 2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="holds no samples"):
        Samples.load(tmp_path / "foreign.safetensors")
    with pytest.raises(FileNotFoundError, match="no such file"):
        Samples.load(tmp_path / "nothing.safetensors")


def test_the_file_is_open(tmp_path):
    """Whoever knows safetensors and JSON alone can read it: eight bytes of length, then the header."""
    make().save(tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["x"]["shape"] == [4, 2, 1, 3, 3]
    assert json.loads(header["__metadata__"]["samples"])["hyper"]["steps"] == 50


def test_arviz_gets_the_draws_of_one_chain():
    import arviz

    data = make().to_arviz()
    posterior = data["posterior"]
    assert dict(posterior.sizes) == {"chain": 1, "draw": 4, "measurement": 2, "channel": 1, "row": 3, "column": 3}
    np.testing.assert_array_equal(posterior["x"].values[0], make().x.numpy())
    np.testing.assert_array_equal(data["observed_data"]["y"].values, make().y.numpy())
    assert posterior.attrs["nfe"] == 50
    assert np.isfinite(np.asarray(arviz.mcse(posterior["x"], method="mean")["x"])).all()


def test_without_arviz_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "arviz", None)
    with pytest.raises(ImportError, match=r"scorefold\[diagnostics\]"):
        make().to_arviz()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.ones(4, 2)}, "x must be"),
        ({"x": torch.ones(0, 2, 1, 3, 3)}, "x must be"),
        ({"y": torch.ones(3, 5)}, "y must hold one measurement"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_hyper_parameters_that_cannot_be_saved_are_refused_at_once():
    with pytest.raises(TypeError, match="hyper and info"):
        make(hyper={"mask": torch.ones(2)})


def test_plot_writes_a_picture(tmp_path):
    samples = make(shape=(1, 12, 12))
    samples.plot(tmp_path / "a.png", truth=torch.rand(2, 1, 12, 12))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["a.pt", "a", "safetensors", "a.safetensors.npy"])
def test_another_ending_than_safetensors_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"path must end in .safetensors, got '.*{name}'"):
        make().save(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_plot_into_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="figure cannot be written to .*a.png: No such file"):
        make(shape=(1, 12, 12)).plot(tmp_path / "missing" / "a.png")
