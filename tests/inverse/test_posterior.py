"""The problem: what fits together, its score, and what is refused."""

import pytest
import torch
from deepinv.models import MedianFilter
from deepinv.physics import Denoising, GaussianNoise, LaplaceNoise, LinearPhysics, PoissonNoise
from deepinv.utils import TensorList

import operators
from inverse import MMPS, Posterior
from priors import Denoiser, Empirical, GaussianMixture, MaximumEntropy, Perturbed

SHAPE = (3, 6, 6)


def prior() -> GaussianMixture:
    return GaussianMixture(torch.full((1, *SHAPE), 0.5), torch.tensor([0.1]))


def physics(noise=0.2):
    return operators.create("inpainting", SHAPE, keep=0.5, noise=noise)


@pytest.mark.parametrize("noise", [0.2, LaplaceNoise(0.3), PoissonNoise(0.1)])
def test_score_is_the_gradient_of_log_prior_plus_log_likelihood(noise):
    problem = Posterior(prior(), physics(noise), torch.rand(4, *SHAPE))
    x = (0.2 + 0.6 * torch.rand(4, *SHAPE)).requires_grad_()
    log_density = problem.prior.log_prob(x, 0.3) + problem.log_likelihood(x)
    gradient = torch.autograd.grad(log_density.sum(), x)[0]
    torch.testing.assert_close(problem.score(x.detach(), 0.3), gradient, rtol=1e-3, atol=1e-3)


def test_score_of_a_maximum_entropy_prior_is_the_drift_of_equation_10():
    problem = Posterior(prior(), physics(), torch.rand(2, *SHAPE))
    geometric = Posterior(MaximumEntropy(problem.prior, alpha=1.5), problem.physics, problem.y)
    x, sigma = torch.rand(2, *SHAPE), 0.05
    likelihood = problem.likelihood.score(x, problem.y)
    torch.testing.assert_close(geometric.score(x, sigma), sigma**1.5 * problem.prior.score(x, sigma) + likelihood)


def test_curvature_is_the_lipschitz_constant_of_the_likelihoods_gradient():
    kernel = torch.rand(1, 1, 3, 3)
    blur = operators.create("blur", SHAPE, kernel=kernel / kernel.sum(), noise=0.2)
    problem = Posterior(prior(), blur, torch.rand(1, *SHAPE))
    matrix = blur.A(torch.eye(108).reshape(-1, *SHAPE)).flatten(1)
    assert float(problem.curvature) == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2) ** 2 / 0.04), rel=1e-2)


def test_chains_pick_measurements_and_their_noise():
    y = torch.rand(3, *SHAPE)
    problem = Posterior(prior(), physics(torch.tensor([0.1, 0.2, 0.3])), y)
    picked = problem.chains(torch.tensor([2, 0, 2, 1]))
    assert torch.equal(picked.y, y[[2, 0, 2, 1]])
    x = torch.rand(3, *SHAPE)
    expected = problem.likelihood.score(x, y)[[2, 0, 2, 1]]
    torch.testing.assert_close(picked.likelihood.score(x[[2, 0, 2, 1]], picked.y), expected)


def test_a_deepinv_denoiser_becomes_a_prior():
    problem = Posterior(MedianFilter(), physics(), torch.rand(1, *SHAPE))
    assert isinstance(problem.prior, Denoiser)
    assert problem.image_shape == SHAPE


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.zeros(1, 3, 6, 5), "y must"),
        (torch.zeros(1, 1, 6, 6), "y must"),
        (torch.zeros(3, 6, 6), "y must"),
        (torch.zeros(1, 3, 6, 6, dtype=torch.int64), "y must"),
        (torch.full((1, 3, 6, 6), torch.nan), "y must"),
        (torch.full((1, 3, 6, 6), torch.inf), "y must"),
        (torch.zeros(1, 3, 6, 6, device="meta"), "y must"),
    ],
)
def test_a_measurement_that_the_physics_cannot_have_given_is_refused(y, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Posterior(prior(), physics(), y)


def test_a_prior_of_another_image_shape_is_refused():
    other = Empirical(torch.rand(2, 1, 28, 28), 0.1)
    with pytest.raises(ValueError, match=r"one image shape, but physics has \(3, 6, 6\) and prior has \(1, 28, 28\)"):
        Posterior(other, physics(), torch.rand(1, *SHAPE))


@pytest.mark.parametrize(
    ("given", "argument"), [(lambda x: x, "physics"), (operators.create("denoising", SHAPE), "prior")]
)
def test_other_kinds_of_prior_and_physics_are_refused(given, argument):
    with pytest.raises(TypeError, match=f"{argument} must be a"):
        Posterior(lambda x, sigma: x, given, torch.rand(1, *SHAPE))


@pytest.mark.parametrize("noise", [0.2, torch.tensor([0.1, 0.2, 0.3])])
@pytest.mark.parametrize("operator", ["gaussian-blur", "inpainting"])
def test_score_of_the_likelihood_is_the_same_by_way_of_the_back_projection(operator, noise):
    given = operators.create(operator, (1, 8, 8), noise=noise)
    problem = Posterior(GaussianMixture(torch.zeros(1, 1, 8, 8), torch.ones(1)), given, torch.rand(3, 1, 8, 8))
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(
        problem.likelihood_score(x), problem.likelihood.score(x, problem.y), rtol=1e-4, atol=1e-3
    )


def test_curvature_along_a_direction_is_that_of_the_nll_on_the_line():
    given = operators.create("compressed-sensing", (1, 8, 8), ratio=0.25, noise=0.1)
    problem = Posterior(GaussianMixture(torch.zeros(1, 1, 8, 8), torch.ones(1)), given, torch.rand(2, 16))
    x, d = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    d = d / d.flatten(1).norm(dim=1).reshape(2, 1, 1, 1)
    # the nll is quadratic along the line, so that its second difference is its curvature
    ahead, here, behind = (problem.log_likelihood(x + step * d) for step in (1.0, 0.0, -1.0))
    curvature = (problem.information * problem.gain(d) ** 2).flatten()
    torch.testing.assert_close(curvature, 2 * here - ahead - behind, rtol=1e-2, atol=1e-2)
    assert (curvature <= problem.curvature * (1 + 1e-3)).all()


@pytest.mark.parametrize("operator", ["blur", "inpainting", "compressed-sensing"])
def test_gain_along_a_direction_of_no_length_is_zero(operator):
    given = operators.create(operator, (1, 8, 8), noise=0.1)
    y = given(torch.rand(2, 1, 8, 8))
    problem = Posterior(GaussianMixture(torch.zeros(1, 1, 8, 8), torch.ones(1)), given, y)
    assert torch.equal(problem.gain(torch.zeros(2, 1, 8, 8)), torch.zeros(2, 1, 1, 1))
    assert problem.gain(torch.zeros(1, 1, 8, 8)) == 0


def test_gain_of_one_image_is_a_number_and_the_same():
    given = operators.create("blur", (1, 8, 8), noise=0.1)
    problem = Posterior(GaussianMixture(torch.zeros(1, 1, 8, 8), torch.ones(1)), given, given(torch.rand(1, 1, 8, 8)))
    d = torch.rand(2, 1, 8, 8)
    assert problem.gain(d[:1]) == pytest.approx(float(problem.gain(d)[0]), rel=1e-5)


def test_gain_where_the_physics_is_not_linear_is_its_largest():
    given = operators.create("phase-retrieval", (1, 8, 8), ratio=2.0, noise=0.1)
    problem = Posterior(GaussianMixture(torch.zeros(1, 1, 8, 8), torch.ones(1)), given, torch.rand(2, 128))
    assert float(problem.gain(torch.rand(2, 1, 8, 8))) == pytest.approx(problem.sqnorm**0.5)


def network(dtype=torch.float32):
    """A prior with weights, which computes in their precision alone."""
    return Denoiser(Linear(), SHAPE).to(dtype)


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Conv2d(3, 3, 1)

    def forward(self, x, sigma):
        return self.mix(x)


@pytest.mark.parametrize("wrap", [lambda prior: prior, MaximumEntropy, lambda prior: Perturbed(prior, lambda x, s: x)])
def test_a_measurement_of_another_precision_than_the_weights_is_refused(wrap):
    y = torch.rand(1, *SHAPE)
    with pytest.raises(TypeError, match=r"y must be float32 like the prior's weights, got float64; use y\.float\(\)"):
        Posterior(wrap(network()), physics(), y.double())
    with pytest.raises(TypeError, match=r"y must be float64 like the prior's weights, got float32; use y\.double\(\)"):
        Posterior(wrap(network(torch.float64)), physics(), y)


def test_a_physics_of_another_precision_than_the_weights_is_refused():
    with pytest.raises(TypeError, match=r"physics must keep float32.*gives float64; use physics\.float\(\)"):
        Posterior(network(), physics().double(), torch.rand(1, *SHAPE))


@pytest.mark.parametrize(
    "given", [prior(), network(torch.float64), MedianFilter()], ids=["mixture", "network", "median"]
)
@pytest.mark.parametrize("change", [lambda p: p, lambda p: p.double()])
def test_double_precision_is_kept_where_the_prior_can(given, change):
    problem = Posterior(given, change(physics()), torch.rand(1, *SHAPE).double())
    assert problem.score(torch.rand(1, *SHAPE).double(), 0.3).dtype == torch.float64


def test_score_of_a_blur_is_accurate_where_the_noise_is_small():
    given = operators.create("blur", (1, 32, 32), noise=1e-3)
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    problem = Posterior(GaussianMixture(torch.zeros(1, 1, 32, 32), torch.ones(1)), given, given(x))
    score = problem.likelihood_score(x).double()
    exact = operators.likelihood(given.double()).score(x.double(), problem.y.double())
    # entries of size 1 are rounded to eps; those of A^T (y - A x) have size noise |kernel|, and |kernel| is 1/5
    assert (score - exact).norm() < 2 * torch.finfo(torch.float32).eps / (1e-3 / 5) * exact.norm()


def test_a_prior_on_another_device_is_refused_and_how_to_move_it():
    given = operators.create("denoising", (1, 8, 8), noise=0.1)
    prior = GaussianMixture(torch.zeros(1, 1, 8, 8), torch.ones(1)).to("meta")
    with pytest.raises(
        ValueError, match=r"prior must be on the device of y, cpu, got one on meta; use prior.to\('cpu'\)"
    ):
        Posterior(prior, given, torch.zeros(1, 1, 8, 8))


IMAGE = (1, 4, 4)
TAU = 0.5  # standard deviation of the prior below, around 0


def spectrum(noise, **kwargs):
    return LinearPhysics(A=lambda x: torch.fft.fft2(x, norm="ortho"), noise_model=GaussianNoise(noise), **kwargs)


# The physics, and the precision that the data add to that of the prior, 1 / TAU^2, for each of two images; A^T A is I
# in all of them. Complex noise of deviation s has s^2 / 2 in the real part and as much in the imaginary one.
IN_PARTS = {
    "one level": (Denoising(GaussianNoise(0.2)).stack(Denoising(GaussianNoise(0.2))), [50.0, 50.0]),
    "two levels": (Denoising(GaussianNoise(0.2)).stack(Denoising(GaussianNoise(0.1))), [125.0, 125.0]),
    "one per image": (
        Denoising(GaussianNoise(0.2)).stack(Denoising(GaussianNoise(torch.tensor([0.1, 0.5])))),
        [125.0, 29.0],
    ),
    "complex": (spectrum(0.2), [50.0, 50.0]),
    "complex and real": (spectrum(0.2).stack(Denoising(GaussianNoise(0.2))), [75.0, 75.0]),
}


@pytest.mark.parametrize("name", IN_PARTS)
def test_posteriors_of_stacked_and_complex_measurements_are_those_of_gaussian_algebra(name):
    given, precision = IN_PARTS[name]
    normal = GaussianMixture(torch.zeros(1, *IMAGE), torch.tensor([TAU**2]))
    truth = TAU * torch.randn(2, *IMAGE, generator=torch.Generator().manual_seed(0))
    y = given(truth)
    problem = Posterior(normal, given, y)
    expected = (1 / TAU**2 + torch.tensor(precision)).rsqrt().reshape(2, 1, 1, 1).expand(2, *IMAGE)
    torch.testing.assert_close(problem.exact().std(), expected, rtol=1e-4, atol=0)
    # the score is 0 at the mean
    mean = problem.exact().mean()
    torch.testing.assert_close(problem.likelihood_score(mean), mean / TAU**2, rtol=1e-3, atol=1e-3)
    # the truth is one draw of the posterior: 32 standard normal numbers, their mean square 1 to within 4 deviations
    assert float(((truth - mean) / expected).square().mean()) < 1 + 4 * 0.25

    samples = MMPS().sample(problem, 200, seed=0)
    # 6,400 numbers: the root mean square of the samples' deviations is known to 0.9%, here to 5 of that
    ratio = ((samples.x - mean) / expected).square().mean((0, 2, 3, 4)).sqrt()
    torch.testing.assert_close(ratio, torch.ones(2), rtol=0, atol=0.065)
    assert float(((samples.mean - mean) / expected).square().mean()) < (1 + 5 * 0.25) / 200
    # what is kept with the samples makes the problem once more, in the units of its noise level
    assert samples.y is problem.y and samples.y.ndim == 2
    assert samples.info["noise_sigma"] == operators.noise_sigma(problem.physics).flatten().tolist()
    again = Posterior(normal, operators.flattened(given, IMAGE), samples.y)
    torch.testing.assert_close(again.exact().mean(), mean)


def test_a_measurement_in_parts_is_not_changed():
    given = IN_PARTS["complex and real"][0]
    y = given(torch.rand(2, *IMAGE))
    before = [piece.clone() for piece in y.x]
    Posterior(GaussianMixture(torch.zeros(1, *IMAGE), torch.ones(1)), given, y)
    assert isinstance(y, TensorList)
    assert all(torch.equal(piece, copy) for piece, copy in zip(y.x, before, strict=True))


@pytest.mark.parametrize("img_size", [None, list(IMAGE)])
def test_a_physics_that_does_not_know_its_images_learns_them_from_the_prior(img_size):
    given = LinearPhysics(A=lambda x: x[..., :2], noise_model=GaussianNoise(0.2), img_size=img_size)
    normal = GaussianMixture(torch.zeros(1, *IMAGE), torch.tensor([TAU**2]))
    problem = Posterior(normal, given, given(torch.rand(1, *IMAGE)))
    assert given.img_size is img_size
    expected = torch.full((1, *IMAGE), TAU)
    expected[..., :2] = (1 / TAU**2 + 1 / 0.2**2) ** -0.5
    torch.testing.assert_close(problem.exact().std(), expected)
    assert MMPS(steps=4).sample(problem, 2).x.shape == (2, 1, *IMAGE)


def test_a_physics_without_image_shape_is_refused_where_the_prior_has_none_either():
    given = LinearPhysics(A=lambda x: x[..., :2], noise_model=GaussianNoise(0.2))
    with pytest.raises(ValueError, match=r"image_shape is needed.*LinearPhysics\(\.\.\., img_size=\(C, H, W\)\)"):
        Posterior(MedianFilter(), given, torch.rand(1, 1, 4, 2))
    assert Posterior(MedianFilter(), given, torch.rand(1, 1, 4, 2), IMAGE).image_shape == IMAGE


@pytest.mark.parametrize("factor", [3.0, -1.0])
def test_an_adjoint_of_your_own_that_is_none_is_refused(factor):
    given = LinearPhysics(A=lambda x: x, A_adjoint=lambda y: factor * y, noise_model=GaussianNoise(0.2))
    normal = GaussianMixture(torch.zeros(1, *IMAGE), torch.ones(1))
    with pytest.raises(ValueError, match=r"A_adjoint of LinearPhysics must be the transpose of its A.*img_size="):
        Posterior(normal, given, torch.rand(1, *IMAGE))
    with pytest.raises(ValueError, match="A_adjoint of LinearPhysics must be the transpose"):
        Posterior(normal, Denoising(GaussianNoise(0.1)).stack(given), TensorList([torch.rand(1, *IMAGE)] * 2))
