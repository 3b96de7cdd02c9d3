"""Moment matching: the mean it takes is exact for a Gaussian prior, and its solver treats each item alone."""

import torch

from inverse.mmps import MMPS, conjugate_residuals


def test_the_denoised_image_given_y_is_exact_for_a_gaussian_prior(gaussian_problem):
    posterior = gaussian_problem(batch=4, operator="gaussian-blur", width=1.0)
    prior, physics, sigma, noise = posterior.prior, posterior.physics, 0.3, 0.1
    x = 0.5 + 0.4 * torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    covariance = prior.rotations[0] @ torch.diag(prior.variances[0]) @ prior.rotations[0].T
    matrix = physics.A(torch.eye(64).reshape(64, 1, 8, 8)).flatten(1).T
    # x and y are both linear measurements of the image: stack them
    stacked = torch.cat([torch.eye(64), matrix])
    levels = torch.cat([torch.full((64,), sigma**2), torch.full((64,), noise**2)])
    gain = covariance @ stacked.T @ torch.linalg.inv(stacked @ covariance @ stacked.T + torch.diag(levels))
    data = torch.cat([x.flatten(1), posterior.y.flatten(1)], 1)
    expected = 0.5 + (data - 0.5 * stacked.sum(1)) @ gain.T
    sampler = MMPS(steps=2, iterations=64, tolerance=1e-6).resolve(posterior)
    denoised = sampler.denoise(posterior, x, sigma)
    torch.testing.assert_close(denoised.flatten(1), expected, rtol=0, atol=2e-4)


def systems() -> tuple[torch.Tensor, torch.Tensor]:
    """Three systems, not symmetric but of positive real part, the last one the identity; and right-hand sides."""
    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(3, 5, 5, generator=generator, dtype=torch.float64)
    matrices = roots @ roots.mT + torch.eye(5, dtype=torch.float64) + (roots - roots.mT)
    matrices[2] = torch.eye(5)
    return matrices, torch.randn(3, 5, generator=generator, dtype=torch.float64)


def test_conjugate_residuals_solve_and_stop_each_item_on_its_own():
    matrices, b = systems()

    def system(keep):
        return lambda u: (torch.einsum("nij,nj->ni", matrices[keep], u), 2 * u)

    together = conjugate_residuals(system(slice(None)), b, 5, 1e-9)
    torch.testing.assert_close(together, 2 * torch.linalg.solve(matrices, b))
    for i in range(3):
        alone = conjugate_residuals(system(slice(i, i + 1)), b[i : i + 1], 5, 1e-9)
        torch.testing.assert_close(together[i : i + 1], alone)


def test_no_iteration_makes_the_residual_larger_even_where_the_system_is_not_positive():
    matrices, b = systems()
    matrices = matrices - 3 * torch.eye(5)
    norms = []
    for iterations in range(1, 6):
        u = conjugate_residuals(lambda u: (torch.einsum("nij,nj->ni", matrices, u), u), b, iterations, 1e-9)
        norms.append((b - torch.einsum("nij,nj->ni", matrices, u)).norm(dim=1))
    assert (torch.stack(norms).diff(dim=0) <= 1e-9).all()
    assert (norms[-1] < 0.9 * b.norm(dim=1)).all()


def test_a_zero_right_hand_side_has_the_zero_solution():
    assert torch.equal(conjugate_residuals(lambda u: (2 * u, u), torch.zeros(2, 3), 5, 1e-6), torch.zeros(2, 3))
