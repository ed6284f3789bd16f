"""The format of an export, which its model card states, and what is wrong with older ones."""

from pathlib import Path

from tfp_smvi.storage.json_files import read_json

__all__ = ["FORMAT", "MODEL_CARD", "find_cut_products", "find_weakness", "read_names"]

MODEL_CARD = "model_card.json"
# 1, which cards do not state: encoded_image took the size of a PNG from wherever the header should
# be, and bounded no surplus data. 2: see `tfp_smvi.export.encoded_images`.
FORMAT = 2


def find_weakness(folder: Path) -> str | None:
    """Returns a line on why a version should be exported again, or None if it need not be.

    A SavedModel without a readable model card is not an export, and nothing is known of it.
    """
    try:
        card = read_json(folder / MODEL_CARD)
        weak = card.get("format", 1) < FORMAT and "encoded_image" in card["signatures"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not weak:
        return None
    return (
        f"{folder} was exported by an older version of tfp-smvi: its signature encoded_image takes "
        "crafted files that fill the memory; export the run again."
    )


def read_names(folder: Path) -> tuple[str, ...] | None:
    """Returns the names of the entries of x that a version takes; None if its card has none."""
    try:
        names = read_json(folder / MODEL_CARD)["names"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if named else None


def find_cut_products(folder: Path) -> str | None:
    """Returns a line if the products of a version are in bfloat16 and this processor lacks it."""
    from tfp_smvi.models.products import multiplies_bfloat16  # it loads TensorFlow

    try:
        reduced = read_json(folder / MODEL_CARD)["products"] == "bfloat16"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not reduced or multiplies_bfloat16():
        return None
    return (
        f"{folder} has products in bfloat16, and this processor does not multiply bfloat16 "
        "numbers: here each product is 0.2 % too small and no faster than in float32."
    )
