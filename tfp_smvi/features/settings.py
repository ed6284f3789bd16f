"""Everything that the features in a file depend on."""

from collections.abc import Mapping

from tfp_smvi.serving.encoders import Identity

__all__ = ["Settings", "differences", "flat"]

# By section, such as that of the model.
Settings = Mapping[str, Identity]


def flat(settings: Settings) -> dict[str, str | int]:
    """The values by section and name: {"model.version": 1}."""
    return {
        f"{section}.{name}": value
        for section, values in settings.items()
        for name, value in values.items()
    }


def differences(before: Mapping[str, str | int], now: Mapping[str, str | int]) -> str:
    """Lists what differs between values by their names; empty if nothing does."""
    return "; ".join(
        f"{name}: {before.get(name)} before, {now.get(name)} now"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    )
