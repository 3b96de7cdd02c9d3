"""Laws of images p(x), known through the score of p smoothed by Gaussian noise."""
