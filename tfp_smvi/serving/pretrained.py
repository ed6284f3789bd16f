"""The exports that are installed with the package: tfp_smvi/pretrained/NAME/VERSION/."""

from pathlib import Path

from tfp_smvi.core.errors import NotFoundError

__all__ = ["find_model", "on_any_host"]

PREFIX = "pretrained:"
FOLDER = Path(__file__).parents[1] / "pretrained"


def find_model(model: Path | str) -> Path:
    """Returns the folder of a model: of one that is installed for "pretrained:NAME".

    Raises:
        NotFoundError: there is none of this name.
    """
    text = str(model)
    if not text.startswith(PREFIX):
        return Path(model)
    name = text.removeprefix(PREFIX)
    names = sorted(path.parents[1].name for path in FOLDER.glob("*/*/saved_model.pb"))
    if name not in names:
        existing = ", ".join(f"{PREFIX}{name}" for name in dict.fromkeys(names))
        problem = "is not installed with this package"
        remedy = f"give {existing or 'the folder of an export'}"
        raise NotFoundError(problem, field="model", value=text, remedy=remedy)
    return FOLDER / name


def on_any_host(version: Path) -> dict[str, object]:
    """Returns the arguments of `LocalEncoder` for the folder of a version, on hosts that share it.

    What is installed may be elsewhere there.
    """
    if version.parent.parent == FOLDER:
        return {"model": f"{PREFIX}{version.parent.name}", "version": int(version.name)}
    return {"model": str(version.absolute())}
