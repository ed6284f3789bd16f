"""Checks an export: the checksums of its files, and its answers in a fresh process."""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

from tfp_smvi.core.errors import NotFoundError, SMVIError
from tfp_smvi.core.files import read_regular
from tfp_smvi.export import standalone_check
from tfp_smvi.export.formats import find_weakness
from tfp_smvi.export.runtimes import require_runtimes
from tfp_smvi.export.standalone import last_line, run_standalone

__all__ = ["CHECKSUMS", "check_export", "find_damage", "find_wrong_answer", "write_checksums"]

# In the format of sha256sum, which checks it, too: sha256sum -c SHA256SUMS.
CHECKSUMS = "SHA256SUMS"
# A line takes about 100 bytes, and an export has a dozen files.
_MAX_BYTES = 1_000_000


def check_export(path: Path | str, *, warn: Callable[[str], None] | None = None) -> None:
    """Checks a published version: the contents of all files, and the answers of all signatures.

    Args:
        path: its folder, such as saved_models/mnist-lam0.5-seed0/1.
        warn: is called with a line if it is whole, and should be exported again for its safety;
            None warns as Python does.

    Raises:
        SMVIError: it does not exist or is damaged, in which case the message names the file or the
            signature, or it has files for a runtime that is not installed.
    """
    path = Path(path)
    if not (path / "saved_model.pb").is_file() and not (path / CHECKSUMS).is_file():
        raise NotFoundError(
            "is not an export",
            field="path",
            value=str(path),
            remedy="give the folder of one version, such as saved_models/NAME/1",
        )
    if damage := find_damage(path):
        raise SMVIError(
            f"{path} is damaged: {'; '.join(damage)}",
            remedy="move the folder away, so that no server loads it, and export again",
        )
    require_runtimes(path)
    if mistake := find_wrong_answer(path):
        raise SMVIError(
            f"{path} does not answer as recorded, although its files are whole ({mistake})",
            remedy="check the version of TensorFlow, or export again",
        )
    if weakness := find_weakness(path):
        (warn or warnings.warn)(weakness)


def write_checksums(folder: Path) -> None:
    """Writes the SHA-256 of all files of a folder to another file there.

    Raises:
        OSError: it cannot be written.
    """
    lines = [f"{digest}  {name}\n" for name, digest in _digests(folder).items()]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def find_damage(folder: Path) -> list[str]:
    """Returns a line for each file that is missing, differs from its checksum, or has none."""
    try:
        # Bytes, split at line feeds only: read_text and splitlines would hide a damaged line end.
        lines = read_regular(folder / CHECKSUMS, _MAX_BYTES).decode().split("\n")[:-1]
        recorded = {line[66:]: line for line in lines}
        present = {name: f"{digest}  {name}" for name, digest in _digests(folder).items()}
    except FileNotFoundError:
        return [f"{CHECKSUMS} is missing"]
    except (OSError, UnicodeDecodeError) as error:
        return [f"{CHECKSUMS} or a file in it cannot be read ({error})"]
    damage = [f"{name or CHECKSUMS} is missing" for name in recorded if name not in present]
    damage += [f"{name} is not in {CHECKSUMS}" for name in present if name not in recorded]
    changed = (name for name in recorded if name in present and recorded[name] != present[name])
    return damage + [f"{name} differs from its SHA-256 in {CHECKSUMS}" for name in changed]


def find_wrong_answer(folder: Path) -> str | None:
    """Compares the answers of an export with those recorded in it, in a process without tfp_smvi.

    Returns:
        One line that names the difference, or the reason why it does not load; None if it is right.
    """
    process = run_standalone(standalone_check, str(folder))
    return last_line(process, "loaded it") if process.returncode else None


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file but the checksums, by its path, sorted; of a link, its target."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            digests[name] = f"link to {path.readlink()}"
        elif path.is_file() and name != CHECKSUMS:
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
