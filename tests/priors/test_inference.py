"""Ways to run a network: all say the same, each to its precision, and leave the prior as it was."""

import subprocess
import sys

import pytest
import torch

from priors import inference, store


def noisy() -> torch.Tensor:
    return 0.4 + 0.3 * torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))


# 8 significant bits in a network whose output is at most about 2: a hundredth of that, times sigma = 0.2.
@pytest.mark.parametrize(("mode", "tolerance"), [("plain", 1e-5), ("channels-last", 1e-5), ("bfloat16", 0.01)])
def test_every_mode_denoises_alike(mode, tolerance):
    prior = store.load("fashion-28")
    prepared = inference.prepare(prior, mode)
    expected, found = prior.denoise(noisy(), 0.2), prepared.denoise(noisy(), 0.2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    assert prepared.about == prior.about and prepared.sigma_range == prior.sigma_range


def test_bfloat16_is_rounded_and_can_be_differentiated():
    prior = store.load("fashion-28")
    prepared, x = inference.prepare(prior, "bfloat16"), noisy().requires_grad_()
    assert not torch.equal(prepared.denoise(x, 0.2), prior.denoise(x, 0.2))
    expected, found = (torch.autograd.grad(each.denoise(x, 0.2).sum(), x)[0] for each in (prior, prepared))
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_plain_is_in_the_memory_format_of_the_images_and_the_prior_stays_as_it_is():
    prior = store.load("fashion-28")
    plain = inference.prepare(prior, "plain")
    formats = [p.network.encoder[1][0].conv1.weight.is_contiguous() for p in (plain, prior)]
    assert formats == [True, False]


def test_a_name_is_loaded():
    found = inference.prepare("fashion-28", "plain").denoise(noisy(), 0.2)
    torch.testing.assert_close(found, store.load("fashion-28").denoise(noisy(), 0.2), rtol=0, atol=1e-5)


@pytest.mark.slow  # the compiler takes half a minute
def test_compiled_denoises_and_differentiates_alike():
    prior = store.load("fashion-28")
    compiled, x = inference.prepare(prior, "compiled"), noisy().requires_grad_()
    denoised = compiled.denoise(x, 0.2)
    torch.testing.assert_close(denoised, prior.denoise(x, 0.2), rtol=0, atol=1e-5)
    gradients = [torch.autograd.grad(denoised.sum(), x, retain_graph=True)[0] for _ in range(2)]
    assert torch.equal(*gradients)


def test_compiled_is_prepared_in_a_fresh_process():
    """Where nothing else has imported the part of torch that it sets."""
    script = "from priors import inference; print(inference.prepare('fashion-28', 'compiled').image_shape)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "(1, 28, 28)\n", done.stderr


def test_an_unknown_mode_is_refused():
    with pytest.raises(
        ValueError, match="inference must be one of auto, plain, channels-last, int8, bfloat16, compiled, got 'int4'"
    ):
        inference.prepare(store.load("fashion-28"), "int4")
    with pytest.raises(ValueError, match="prior must be a learned one to be run in plain, got TotalVariation"):
        inference.prepare(store.load("tv"), "plain")
    with pytest.raises(ValueError, match="got 'foto'; did you mean 'photo'"):
        inference.prepare("foto", "plain")


@pytest.mark.parametrize(("has", "taken"), [("avx512_vnni", "int8"), ("avx_vnni", "int8"), ("avx2", None)])
def test_by_default_large_images_are_in_8_bits_where_the_processor_is_good_at_it(monkeypatch, has, taken):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {has: True}, raising=False)
    photo, small, classical = (store.load(name) for name in ("photo", "fashion-28", "tv"))
    assert inference.prepare(photo).inference == taken
    assert inference.prepare(small) is small and inference.prepare(classical) is classical


def test_8_bits_are_refused_where_the_processor_lacks_them(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    with pytest.raises(
        ValueError, match="inference int8 needs a prior in float32, .* on a processor with the instructions AVX-512"
    ):
        inference.prepare("photo", "int8")
