"""Whether an export is whole: the checksums of its files, and its answers in a process of their own."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.export import standalone_check as saved_model_check

__all__ = ["CHECKSUMS", "check_export", "find_damage", "find_wrong_answer", "write_checksums"]

# In the format of sha256sum, which checks it, too: sha256sum -c SHA256SUMS.
CHECKSUMS = "SHA256SUMS"


def check_export(path: Path | str) -> None:
    """Checks a published version: the contents of each file, and the answers of each signature.

    Args:
        path: its folder, such as saved_models/mnist-lam0.5-seed0/1.

    Raises:
        SMVIError: there is none, or it is damaged; the message names the file or the signature.
    """
    path = Path(path)
    if not (path / "saved_model.pb").is_file() and not (path / CHECKSUMS).is_file():
        raise SMVIError(
            f"{path} is not an export; give the folder of one version, such as saved_models/NAME/1."
        )
    if damage := find_damage(path):
        raise SMVIError(
            f"{path} is damaged: {'; '.join(damage)}. Move that folder away, so that no server loads it, and export "
            "again."
        )
    if mistake := find_wrong_answer(path):
        raise SMVIError(
            f"{path} does not answer as it was written, though its files are whole: {mistake}"
        )


def write_checksums(folder: Path) -> None:
    """Writes the SHA-256 of all files in a folder into one more file there.

    Raises:
        OSError: it cannot be written.
    """
    lines = [f"{digest}  {name}\n" for name, digest in _digests(folder).items()]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def find_damage(folder: Path) -> list[str]:
    """Returns a text for each file that is not as the checksums say, or missing, or not among them."""
    try:
        # Bytes, and no other line ends: read_text and splitlines forgive a damaged one.
        lines = (folder / CHECKSUMS).read_bytes().decode().split("\n")[:-1]
        recorded = {line[66:]: line for line in lines}
        present = {name: f"{digest}  {name}" for name, digest in _digests(folder).items()}
    except FileNotFoundError:
        return [f"{CHECKSUMS} is missing"]
    except (OSError, UnicodeDecodeError) as error:
        return [f"{CHECKSUMS} or a file in it cannot be read ({error})"]
    damage = [f"{name or CHECKSUMS} is missing" for name in recorded if name not in present]
    damage += [f"{name} is not in {CHECKSUMS}" for name in present if name not in recorded]
    changed = (name for name in recorded if name in present and recorded[name] != present[name])
    return damage + [f"{name} has not the SHA-256 that {CHECKSUMS} says" for name in changed]


def find_wrong_answer(folder: Path) -> str | None:
    """Loads an export in a fresh process without tfp_smvi, and compares its answers with those it was written with.

    Returns:
        One line that says what differs or why it does not load, or None.
    """
    # The CPU's answers are compared: a GPU's own kernels differ, and its memory may be taken.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    process = subprocess.run(
        # -P: not the folder of the program, which holds this package's modules under other names.
        [sys.executable, "-P", saved_model_check.__file__, str(folder)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=environment,
    )
    if process.returncode == 0:
        return None
    if process.returncode < 0:
        return f"the process that loaded it was ended by {signal.Signals(-process.returncode).name}"
    lines = [*process.stderr.splitlines(), *process.stdout.splitlines()]
    return lines[-1] if lines else f"the process that loaded it ended with {process.returncode}"


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 in hex of each file but the checksums, by its path, in order; of a link, where it leads."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            digests[name] = f"link to {path.readlink()}"
        elif path.is_file() and name != CHECKSUMS:
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
