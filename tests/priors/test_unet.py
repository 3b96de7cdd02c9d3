import pytest
import torch

from priors.unet import Labelled, UNet


def random_unet(**options: object) -> UNet:
    """A network whose every parameter is drawn, so that no branch is silent as it is at the start of a training."""
    random = torch.Generator().manual_seed(0)
    network = UNet(**{"channels": (4, 8), "encoder_blocks": (1,), "decoder_blocks": (1,), "features": 16, **options})
    for parameter in network.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=random)
    return network.double()


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_starts_at_zero():
    assert torch.equal(UNet()(torch.randn(2, 1, 28, 28), torch.zeros(2)), torch.zeros(2, 1, 28, 28))


def test_default_fits_in_eight_megabytes():
    assert 4 * sum(parameter.numel() for parameter in UNet().parameters()) <= 8_000_000


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1), (12, 6)])
@pytest.mark.parametrize("attention", [True, False])
def test_any_size(size, attention):
    network = random_unet(
        in_channels=3, channels=(4, 8, 8), encoder_blocks=(0, 1), decoder_blocks=(1, 1), attention=attention
    )
    assert network(images(2, 3, *size), torch.zeros(2).double()).shape == (2, 3, *size)


def test_odd_size_is_padded_by_its_edge():
    network, x = random_unet(), images(1, 1, 7, 8)
    padded = torch.cat([x, x[..., -1:, :]], dim=-2)
    assert torch.equal(network(x, torch.zeros(1).double()), network(padded, torch.zeros(1).double())[..., :7, :])


def test_items_do_not_mix():
    network, x, noise = random_unet(), images(3, 1, 8, 8), images(3)
    alone = torch.cat([network(x[i : i + 1], noise[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x, noise), alone)


def test_listens_to_the_noise_level():
    network, x = random_unet(), images(1, 1, 8, 8)
    at_small, at_large = (network(x, torch.tensor([level]).double()) for level in (-1.5, 1.0))
    assert not torch.allclose(at_small, at_large)


def test_attention_reaches_across_the_image():
    # One block reaches 2 * (2 + 2 + ...) pixels around; the far corner of a wide image feels attention alone.
    for attention in (True, False):
        network = random_unet(attention=attention, encoder_blocks=(0,), decoder_blocks=(0,), middle_blocks=1)
        # Group statistics are global as well: freeze them, to leave attention as the only way.
        for module in network.modules():
            if isinstance(module, torch.nn.GroupNorm):
                module.forward = lambda hidden: hidden
        x = images(1, 1, 4, 64).requires_grad_()
        network(x, torch.zeros(1).double())[0, 0, 0, 0].backward()
        assert bool(x.grad[..., -1].abs().max() > 0) == attention


def test_derivatives_in_both_modes_agree():
    network, x, noise = random_unet(), images(2, 1, 8, 8), images(2)
    u, v = images(4, 1, 8, 8).split(2)
    forward = torch.func.jvp(lambda z: network(z, noise), (x,), (u,))[1]
    backward = torch.func.vjp(lambda z: network(z, noise), x)[1](v)[0]
    step = 1e-6
    numeric = (network(x + step * u, noise) - network(x - step * u, noise)) / (2 * step)
    torch.testing.assert_close(forward, numeric, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((backward * u).sum(), (forward * v).sum())


def test_levels_and_blocks_must_agree():
    with pytest.raises(ValueError, match="one number for each of the 2 levels above the coarsest, got 1 and 2"):
        UNet(channels=(4, 8, 8), encoder_blocks=(1,), decoder_blocks=(1, 1))


def test_config_rebuilds_the_network():
    network = random_unet()
    again = UNet(**network.config).double()
    again.load_state_dict(network.state_dict())
    x, noise = images(1, 1, 8, 8), images(1)
    assert torch.equal(network(x, noise), again(x, noise))


def test_labels_say_nothing_at_the_start_nor_does_the_last_one_ever():
    network, x, noise = random_unet(classes=3), images(4, 1, 8, 8), images(4)
    labels = torch.tensor([0, 1, 2, 3])
    without = network(x, noise)
    with torch.no_grad():
        network.labels.weight[3] = 0  # as the padding row is kept by training
    told = network(x, noise, labels)
    differences = (told - without).flatten(1).abs().amax(1)
    assert (differences[:3] > 1e-6).all() and differences[3] == 0
    fresh = UNet(classes=3)
    assert fresh.labels.weight.abs().max() == 0
    assert fresh.config["classes"] == 3 and "classes" not in UNet().config


def test_labels_filled_in():
    network, x, noise = random_unet(classes=3), images(2, 1, 8, 8), images(2)
    torch.testing.assert_close(
        Labelled(network, torch.tensor([2, 0]))(x, noise), network(x, noise, torch.tensor([2, 0]))
    )
    torch.testing.assert_close(Labelled(network, 1)(x, noise), network(x, noise, torch.tensor([1, 1])))
    assert Labelled(network, 1).network is network
    with pytest.raises(ValueError, match=r"as many images as there are labels \(3\), got 2"):
        Labelled(network, torch.tensor([0, 1, 2]))(x, noise)


@pytest.mark.parametrize("labels", [4, -1, 0.5, torch.tensor([[0, 1]])])
def test_labels_that_are_none(labels):
    with pytest.raises(
        ValueError, match="labels must be one whole number or one for each image, from 0 to 2, or 3 for"
    ):
        Labelled(random_unet(classes=3), labels)


def test_labels_need_classes():
    with pytest.raises(ValueError, match="labels need a network with classes, .* got 1"):
        Labelled(random_unet(), 1)


def test_grey_and_colour_share_all_but_the_first_and_last_layer():
    network = random_unet(in_channels=[1, 3], attention=False, local=True)
    for channels in (1, 3):
        x = images(2, channels, 7, 9)
        assert network(x, torch.zeros(2).double()).shape == x.shape
        alone = random_unet(in_channels=channels, attention=False, local=True)
        state = {name: value for name, value in network.state_dict().items() if not name.startswith("conv_")}
        for end in ("conv_in", "conv_out"):
            layer = getattr(network, end)[str(channels)]
            state |= {f"{end}.{name}": value for name, value in layer.state_dict().items()}
        alone.load_state_dict(state)
        assert torch.equal(network(x, torch.zeros(2).double()), alone(x, torch.zeros(2).double()))
    assert network.config["in_channels"] == [1, 3]
    assert UNet(**network.config).state_dict().keys() == network.state_dict().keys()


def test_local_network_knows_a_neighbourhood_only():
    # Blocks at one level reach 2 pixels each, those at the next 4, the ends and the halving 3 more.
    network = random_unet(attention=False, local=True, middle_blocks=1, encoder_blocks=(0,), decoder_blocks=(0,))
    x = images(1, 1, 32, 40)
    whole, tile = (network(part, torch.zeros(1).double()) for part in (x, x[..., :24, :24]))
    torch.testing.assert_close(tile[..., :12, :12], whole[..., :12, :12], rtol=0, atol=1e-12)
    other = random_unet(attention=False, middle_blocks=1, encoder_blocks=(0,), decoder_blocks=(0,))
    whole, tile = (other(part, torch.zeros(1).double()) for part in (x, x[..., :24, :24]))
    assert (tile[..., :12, :12] - whole[..., :12, :12]).abs().max() > 1e-6
