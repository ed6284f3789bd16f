"""The settings of a model: likelihood, posterior and networks."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal

from tfp_smvi.config.base import Settings, option, require, require_whole

__all__ = [
    "DEFAULT_ACTIVATION",
    "Activation",
    "ArchitectureName",
    "FlowTransform",
    "LikelihoodName",
    "ModelConfig",
    "PosteriorName",
    "require_function_name",
]

ArchitectureName = Literal["dense", "conv"]
LikelihoodName = Literal["bernoulli", "gaussian", "poisson", "negative_binomial", "categorical"]
PosteriorName = Literal["diagonal", "full", "flow"]
FlowTransform = Literal["spline", "affine"]
Activation = Literal["softplus", "tanh", "elu", "gelu", "silu", "relu"]

# See results/recipe.md. Version 0.1 had softplus, as the paper.
DEFAULT_ACTIVATION: Activation = "silu"


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Posterior, likelihood and networks; by default those of Levy & Ermon, section 5.

    Their activation alone is another one, softplus.
    """

    likelihood: LikelihoodName | None = option(
        None,
        "p(x|z): bernoulli (on binarized intensities), gaussian, and of counts poisson, "
        "negative_binomial and categorical.  [default: from the data]",
    )
    latent_dim: int = option(50, "Number of latent dimensions.")
    hidden_sizes: tuple[int, ...] | None = option(
        None,
        "Units of the encoder's fully connected hidden layers; the decoder mirrors them.  "
        "[default: 1024,1024; with conv: 256]",
    )
    activation: Activation | None = option(
        None,
        "Activation of the hidden layers; the paper has softplus.  [default: silu; a run that "
        "continues keeps its own]",
    )
    architecture: ArchitectureName | None = option(
        "dense", "The networks, unless --model makes them; conv is for images.", later=True
    )
    model: str | None = option(
        None,
        "A function of your own that makes the networks, as package.module:function; it is "
        "imported from the Python path or the current folder.",
        later=True,
    )
    posterior: PosteriorName = option(
        "diagonal",
        "q(z|x): a Gaussian with diagonal or full covariance, or a normalizing flow.",
        later=True,
    )
    flow_layers: int = option(4, "Coupling layers of the flow.", later=True)
    flow_transform: FlowTransform = option(
        "spline",
        "What a coupling layer of the flow does: a rational-quadratic spline or affine.",
        later=True,
    )
    num_categories: int | None = option(
        None,
        "Number of categories of a categorical likelihood.  [default: from the data]",
        later=True,
    )
    missing: bool = option(
        False,
        "Let x have missing entries, NaN, and the encoder see which; automatic if the data have "
        "any.",
        later=True,
    )

    def _check(self) -> None:
        require_whole("latent_dim", self.latent_dim, least=2 if self.posterior == "flow" else 1)
        require_whole("flow_layers", self.flow_layers, least=1)
        if self.num_categories is not None:
            require_whole("num_categories", self.num_categories, least=2)
        self._choose_networks()
        sizes = self.hidden_sizes or ()
        ok = len(sizes) >= 1 and all(size >= 1 for size in sizes)
        require("hidden_sizes", sizes, ok, "one or more whole numbers of at least 1")

    def _choose_networks(self) -> None:
        """Completes the architecture and its sizes."""
        architecture = self.architecture or "dense"
        if self.model is not None:
            require_function_name(self.model)
            # dense is the default, and no wish.
            allowed = "either it or {model}, whose function makes the networks"
            require("architecture", architecture, architecture == "dense", allowed)
        name = architecture if self.model is None else None
        object.__setattr__(self, "architecture", name)
        if self.hidden_sizes is None:
            sizes = (256,) if self.architecture == "conv" else (1024, 1024)
            object.__setattr__(self, "hidden_sizes", sizes)

    @property
    def hidden_activation(self) -> Activation:
        """The activation of the hidden layers."""
        return self.activation or DEFAULT_ACTIVATION

    def with_activation(self, other: "ModelConfig | None" = None) -> "ModelConfig":
        """Returns these settings, with the activation of another, or the default, if none is set.

        Args:
            other: the settings of an earlier run or sweep that goes on.
        """
        activation = self.activation or (other or self).hidden_activation
        return dataclasses.replace(self, activation=activation)

    def completed_by(self, other: "ModelConfig") -> "ModelConfig":
        """Returns these settings, with those of another for what is left to the data or the run."""
        return dataclasses.replace(
            self,
            likelihood=self.likelihood or other.likelihood,
            num_categories=self.num_categories or other.num_categories,
            missing=self.missing or other.missing,
            activation=self.activation or other.activation,
        )


def require_function_name(name: str) -> None:
    """Raises an SMVIError unless a name, of the field `model`, is one of a user's function."""
    ok = re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name) is not None
    module, _, function = name.partition(":")
    if ok and module.endswith(".py"):
        remedy = f"the module of that file: {module.removesuffix('.py')}:{function}"
        require("model", name, False, remedy)
    require("model", name, ok, "package.module:function, such as my_model:build")
