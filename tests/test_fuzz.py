"""Whatever is in a file or an option, a command ends with exit code 0, or with one clear line.

A few inputs of each kind are tried in `make test`; `make soak` tries thousands.
"""

import importlib
import json
import os
import random
import resource
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import click
import numpy as np
import pytest
from tfp_smvi_cli.main import COMMANDS

from tests.support import fuzz, runs
from tests.support.servers import encode_png
from tests.support.small_sweep import no_check
from tests.test_version_0_1 import FILES, MODEL
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.engines.processes import Processes
from tfp_smvi.evaluation.session import EvaluationSession
from tfp_smvi.report import figures
from tfp_smvi.serving import encoders
from tfp_smvi.training.trainer import Trainer

SECONDS = 30  # no input takes longer
MEMORY = 4 * 2**30  # that an input may take, in bytes
EXPORT = FILES / "saved_models" / "digits"
STOPPED = "stopped by the test before the work."


class TooLate(BaseException):
    """An input takes too long. No command may handle it."""


def stop(*arguments: Any, **options: Any) -> NoReturn:
    """In place of the work that takes long."""
    raise SMVIError(STOPPED)


def start_no_process(*arguments: Any) -> NoReturn:
    raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def little_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands read, check and prepare everything, and stop before the work."""
    from tfp_smvi.classification import draws, measuring

    monkeypatch.setattr(Trainer, "train", stop)
    monkeypatch.setattr(EvaluationSession, "estimate", stop)
    monkeypatch.setattr(measuring, "encode_means", stop)
    monkeypatch.setattr(draws, "measure_accuracy", stop)
    no_check(monkeypatch)  # it would end all sweeps
    monkeypatch.setattr(Processes, "start", start_no_process)
    monkeypatch.setattr("tensorflow.saved_model.save", stop)
    monkeypatch.setattr("tfp_smvi.data.tfds_sets._prepare", stop)
    monkeypatch.setattr(figures, "FIGURES", {"likelihood": figures.FIGURES["likelihood"]})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def one_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The export that is whole is loaded once."""
    load = encoders.LocalEncoder
    whole = load(EXPORT, warn=print)
    monkeypatch.setattr(
        encoders,
        "LocalEncoder",
        lambda path, *version, **options: (
            whole if Path(path) == EXPORT else load(path, *version, **options)
        ),
    )


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """An input that takes too much memory or time fails, and not the machine."""

    def refuse(number: int, frame: FrameType | None) -> NoReturn:
        raise TooLate(f"more than {SECONDS} seconds")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    before = signal.signal(signal.SIGALRM, refuse)
    yield
    signal.signal(signal.SIGALRM, before)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Input(NamedTuple):
    """A command line, and what was done to its input."""

    arguments: list[str]
    what: str


Maker = Callable[[random.Random, Path], Input]


def copied(name: str, place: Path) -> Path:
    return Path(shutil.copytree(FILES / name, place / Path(name).name))


def damage(rng: random.Random, path: Path) -> str:
    """Mutates a file by its kind."""
    mutate = {
        ".json": fuzz.mutate_json,
        ".npz": fuzz.mutate_arrays,
        ".npy": fuzz.mutate_array,
    }.get(path.suffix, fuzz.mutate_bytes)
    path.write_bytes(mutate(rng, path.read_bytes()))
    return f"{mutate.__name__} of {path.name}"


def evaluate_again(run_dir: Path) -> list[str]:
    """The command that merges the blocks of an evaluation, as far as its settings are options."""
    settings = json.loads((FILES / "run" / "evaluation.json").read_text())["settings"]
    flat = settings | settings.pop("ais")
    options = [
        word
        for name, value in flat.items()
        if value is not None and name != "ais"
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    return ["evaluate", str(run_dir), "--merge", *options]


def readers(rng: random.Random, run_dir: Path) -> list[str]:
    """A command that reads a run directory."""
    train = ["train", *MODEL, "--lam", "0.5", "--epochs", "3", "--run-dir", str(run_dir)]
    return rng.choice(
        [
            train,
            ["classify", str(run_dir), "--labels", "50"],
            ["export", str(run_dir), "--output", str(run_dir.parent / "models"), "--no-verify"],
            evaluate_again(run_dir),
        ]
    )


def config(rng: random.Random, place: Path) -> Input:
    """config.json of a run, and as settings of another."""
    run_dir = copied("run", place)
    what = damage(rng, run_dir / "config.json")
    if rng.random() < 0.5:
        return Input(readers(rng, run_dir), what)
    settings = str(run_dir / "config.json")
    return Input(["train", "--config", settings, "--run-dir", str(place / "new")], what)


def checkpoint(rng: random.Random, place: Path) -> Input:
    run_dir = copied("run", place)
    what = damage(rng, next((run_dir / "checkpoints").iterdir()))
    return Input(readers(rng, run_dir), what)


def result(rng: random.Random, place: Path) -> Input:
    """A log, an evaluation, a classification or a part of one."""
    run_dir = copied("run", place)
    files = [path for path in run_dir.rglob("*.json*") if path.name != "config.json"]
    what = damage(rng, rng.choice(sorted(files)))
    return Input(readers(rng, run_dir), what)


def block(rng: random.Random, place: Path) -> Input:
    run_dir = copied("run", place)
    what = damage(rng, rng.choice(sorted(run_dir.glob("evaluation/*/*.npz"))))
    return Input(evaluate_again(run_dir), what)


def sweep(rng: random.Random, place: Path) -> Input:
    """sweep.json, a result of one of its runs, or a gallery."""
    sweep_dir = copied("sweep", place)
    others = [path for path in sweep_dir.glob("*/*") if path.suffix in (".json", ".npz")]
    file = sweep_dir / "sweep.json" if rng.random() < 0.6 else rng.choice(sorted(others))
    what = damage(rng, file)
    arguments = rng.choice(
        [
            ["plot", str(sweep_dir), "--format", "png"],
            ["report", str(sweep_dir)],
            ["sweep", *MODEL, "--lams", "0,0.5", "--epochs", "2", "--sweep-dir", str(sweep_dir)],
        ]
    )
    return Input(arguments, what)


def data_file(rng: random.Random, place: Path) -> Input:
    """Images of one's own, to train on."""
    file = place / "x.npz"
    images = np.load(FILES / "digits.npy")
    labels = np.arange(len(images)) % 10
    parts = {"x_train": images, "x_test": images[:20], "y_train": labels, "y_test": labels[:20]}
    np.savez(file, **parts)
    what = damage(rng, file)
    options = ("--epochs", "1", "--batch-size", "10", "--run-dir", str(place / "run"))
    return Input(["train", "--dataset", str(file), *options], what)


def features_of(rng: random.Random, images: Path, output: Path) -> list[str]:
    how = ["--on-error", rng.choice(["skip", "fail"]), "--output", str(output)]
    return ["features", str(images), "--model", str(EXPORT), *how]


def array_file(rng: random.Random, place: Path) -> Input:
    """Images in an array, for their features."""
    images = np.load(FILES / "digits.npy")
    file = place / rng.choice(["x.npy", "x.npz"])
    if file.suffix == ".npy":
        np.save(file, images)
    else:
        np.savez(file, images=images)
    what = damage(rng, file)
    return Input(features_of(rng, file, place / "f.npz"), what)


def picture(rng: random.Random, place: Path) -> Input:
    """A folder of pictures, one of which is damaged, beside what is no file."""
    folder = place / "pictures"
    folder.mkdir()
    for number, image in enumerate(np.load(FILES / "digits.npy")[:5]):
        pixels = np.rint(255 * np.asarray(image, np.float64) / max(1.0, float(image.max())))
        (folder / f"{number}.png").write_bytes(encode_png(pixels.astype(np.uint8).reshape(8, 8, 1)))
    what = damage(rng, folder / "2.png")
    odd = rng.randrange(5)
    if odd == 0:
        os.mkfifo(folder / "3a.png")
    elif odd == 1:
        (folder / "3a.png").mkdir()
    elif odd == 2:
        (folder / "3a.png").symlink_to(folder / "3a.png")
    elif odd == 3:
        shutil.copy(folder / "0.png", os.fsencode(folder) + b"/\xff.png")
    return Input(features_of(rng, folder, place / "f.npz"), f"{what}, {odd}")


def card(rng: random.Random, place: Path) -> Input:
    """The card or the checksums of an export."""
    model = copied("saved_models/digits", place)
    what = damage(rng, model / "1" / rng.choice(["model_card.json", "SHA256SUMS"]))
    array = ["features", str(FILES / "digits.npy"), "--model", str(model)]
    return Input([*array, "--output", str(place / "f.npz")], what)


def option(rng: random.Random, place: Path) -> Input:
    """An option or an argument of any command."""
    os.mkfifo(place / "fifo")
    (place / "folder").mkdir()
    (place / "file").write_text("x")
    os.chdir(place)
    base = {
        "train": ["--dataset", "digits", "--epochs", "1", "--run-dir", "new"],
        "evaluate": [str(FILES / "half")],
        "classify": [str(FILES / "half")],
        "export": [str(FILES / "half"), "--output", "models", "--no-verify"],
        "sweep": ["--dataset", "digits", "--lams", "0", "--sweep-dir", "sweep"],
        "plot": [str(FILES / "sweep"), "--output", "figures"],
        "report": [str(FILES / "sweep"), "--output", "page.html"],
        "serve": ["--dry-run", "--models", str(EXPORT.parent)],
        "features": [str(FILES / "digits.npy"), "--model", str(EXPORT), "--output", "f.npz"],
        "datasets": [],
    }
    name = rng.choice(sorted(COMMANDS))
    command = getattr(importlib.import_module(f"tfp_smvi_cli.{COMMANDS[name][0]}"), name)
    words, word = base[name], rng.choice(fuzz.ODD_WORDS)
    if words and not words[0].startswith("--") and rng.random() < 0.1:
        return Input([name, word, *words[1:]], f"argument {word[:40]!a}")
    choices = [p for p in command.params if isinstance(p, click.Option) and not p.is_flag]
    changed = rng.choice(choices).opts[-1]
    if changed == "--endpoint":
        words = [words[0], *words[3:], "--retries", "0"]
    return Input([name, *words, changed, word], f"{changed} {word[:40]!a}")


KINDS: tuple[Maker, ...] = (
    *(config, checkpoint, result, block, sweep, data_file, array_file, picture, card, option),
)


def find_fault(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str | None:
    """Runs a command; returns what is wrong with its end, or None."""
    capfd.readouterr()
    signal.alarm(SECONDS)
    try:
        code = runs.call(*arguments)
    except (Exception, TooLate) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]!a} in {frame.filename}:{frame.lineno}"
    finally:
        signal.alarm(0)
    lines = capfd.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    if "Traceback" in "".join(lines):
        return "a traceback on stderr"
    # A sweep has a line for each run that fails.
    clear = errors[-1:] == lines[-1:] and (len(errors) == 1 or arguments[0] == "sweep")
    if code == 0 or (code in (1, 2) and clear):
        return None
    return f"exit code {code} with {[line[:200] for line in lines[-3:]]}"


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_input_ends_in_a_traceback(
    kind: Maker,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A fault is printed with the number that `--fuzz-seed` and the kind give it again by."""
    number, seed = (request.config.getoption(name) for name in (fuzz.OPTION, fuzz.SEED_OPTION))
    faults = []
    for count in range(number):
        place = tmp_path / str(count)
        place.mkdir()
        case = kind(random.Random(f"{seed} {kind.__name__} {count}"), place)
        fault = find_fault(case.arguments, capfd)
        os.chdir(tmp_path)
        if fault is None:
            shutil.rmtree(place)
        else:
            command = " ".join(word[:60] for word in case.arguments)
            faults.append(f"{seed} {kind.__name__} {count}: {case.what}: {command!a}: {fault}")
    request.node.user_properties.append((fuzz.PROPERTY, (number, len(faults))))
    assert faults == [], "\n".join(faults)
