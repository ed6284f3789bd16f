"""How good a model's inference is: ELBO, log-likelihood, and the gap between them."""
