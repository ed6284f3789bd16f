"""The quantities that are logged, evaluated, tabulated and drawn: one name, label and unit each."""

from typing import NamedTuple

from tfp_smvi.core.divergences import DivergenceName

__all__ = ["OF_DIVERGENCE", "QUANTITIES", "Quantity"]


class Quantity(NamedTuple):
    """How a quantity is shown.

    Attributes:
        name: its field in results and its key in files.
        label: its name in tables and figures.
        unit: its unit; "" for a number without one.
        places: decimal places in tables.
        short: its name for narrow columns.
    """

    name: str
    label: str
    unit: str = "nats"
    places: int = 3
    short: str = ""

    @property
    def heading(self) -> str:
        """The label without its formula, such as "gap"."""
        return self.label.partition(" = ")[0]

    def format(self, value: float) -> str:
        """Such as "-98.312"."""
        return f"{value:.{self.places}f}"


_ALL = (
    Quantity("objective", "objective", places=2, short="objective"),
    Quantity("elbo", "ELBO", short="ELBO"),
    Quantity("reconstruction", "reconstruction", places=2),
    Quantity("iwae_bound", "IWAE bound"),
    Quantity("log_likelihood", "log-likelihood (AIS)", short="log-lik."),
    Quantity("gap", "gap = log-likelihood - ELBO", short="gap"),
    Quantity("amortization_gap", "amortization gap = ELBO(q*) - ELBO", short="amortization"),
    Quantity("approximation_gap", "approximation gap = log-likelihood - ELBO(q*)"),
    Quantity("kl", "KL(q(z|x), p(z))"),
    Quantity("divergence", "divergence D_SM", "squared nats per squared unit of z", short="D_SM"),
    Quantity("weighted_divergence", "divergence D_w", "squared nats", short="D_w"),
    Quantity("bracket", "bracket = upper - lower"),
    Quantity("acceptance_rate", "acceptance rate", "", 2),
    Quantity("effective_sample_size", "effective sample size", "chains", 2),
    Quantity("active_units", "active units", "latents", 0),
)
QUANTITIES = {quantity.name: quantity for quantity in _ALL}
# What a divergence is called; a training logs the one that it minimizes as "divergence".
OF_DIVERGENCE: dict[DivergenceName, Quantity] = {
    "fisher": QUANTITIES["divergence"],
    "weighted": QUANTITIES["weighted_divergence"],
}
