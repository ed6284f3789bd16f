"""examples/client.py: features by REST in a process that has neither TensorFlow nor tfp_smvi."""

import importlib.util
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from tests.support.servers import (
    NAME,
    Fault,
    Models,
    encode_png,
    make_export,
    make_images,
    rest_server,
)

FILE = Path(__file__).parents[2] / "examples" / "client.py"
# Imports of all but NumPy and the standard library fail.
_ALONE = f"""
import sys
import numpy, runpy
class Refuse:
    def find_spec(self, name, *others):
        if name.partition(".")[0] not in {{*sys.stdlib_module_names, "numpy"}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = ["client.py", *sys.argv[1:]]
runpy.run_path({str(FILE)!r}, run_name="__main__")
"""


class Served(NamedTuple):
    """A model behind a server: its address, its faults to come, and its own answers."""

    url: str
    models: Models
    mean: np.ndarray
    stddev: np.ndarray


@pytest.fixture(scope="module")
def client() -> ModuleType:
    spec = importlib.util.spec_from_file_location("standalone_client", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models({1: make_export(tmp_path_factory.mktemp("export") / "1")})


@pytest.fixture
def served(models: Models) -> Iterator[Served]:
    images = tf.constant(make_images(5))
    answers = models.predict(1, "uint8", {"images": images})
    models.requests.clear()
    models.faults.clear()
    with rest_server(models) as endpoint:
        address = endpoint.rpartition("/")[0]
        yield Served(f"{address}/v1/models/{NAME}", models, answers["mean"], answers["stddev"])


def assert_features(served: Served, features: tuple[np.ndarray, np.ndarray]) -> None:
    for given, expected in zip(features, (served.mean, served.stddev), strict=True):
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5)


def test_all_forms_of_images_have_the_same_features(client: ModuleType, served: Served) -> None:
    images = make_images(5)
    one = client.Client(served.url, batch_size=2)
    assert_features(served, one.encode(images))
    assert_features(served, one.encode(images.astype(np.float32) / np.float32(255)))
    assert_features(served, one.encode([encode_png(image) for image in images]))
    assert [count for _, _, count in served.models.requests] == [2, 2, 1] * 3
    assert_features(served, client.Client(served.url + "/versions/1").encode(images))


def run_alone(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _ALONE, *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_needs_numpy_alone(served: Served, tmp_path: Path) -> None:
    for number, image in enumerate(make_images(5)):
        (tmp_path / f"{number}.png").write_bytes(encode_png(image))
    np.save(tmp_path / "images.npy", make_images(5))
    output = tmp_path / "features.npz"
    for images in (sorted(tmp_path.glob("*.png")), [tmp_path / "images.npy"]):
        process = run_alone(served.url, *map(str, images), "--output", str(output))
        assert (process.returncode, process.stderr) == (0, "")
        assert process.stdout == f"{output} has the features of 5 images.\n"
        with np.load(output) as features:
            assert_features(served, (features["mean"], features["stddev"]))
            assert len(features["ids"]) == 5


def test_a_mistake_is_one_line(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    output = ("--output", str(tmp_path / "x.npz"))
    for arguments, message in (
        ((served.url, str(tmp_path / "a.png")), "HTTP 400: "),
        ((served.url, str(tmp_path / "b.png")), "No such file"),
        ((served.url + "x", str(tmp_path / "a.png")), "Servable not found"),
        (("ftp://x", str(tmp_path / "a.png")), "'ftp://x' is not allowed; give http://"),
    ):
        process = run_alone(*arguments, *output)
        assert process.returncode == 1
        assert process.stderr.startswith("Error: ")
        assert message in process.stderr
        assert process.stderr.count("\n") == 1
    assert not (tmp_path / "x.npz").exists()


def test_a_busy_server_is_asked_again_and_an_absent_one_given_up(
    client: ModuleType, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    served.models.faults += [Fault(code="UNAVAILABLE"), Fault(code="RESOURCE_EXHAUSTED")]
    assert_features(served, client.Client(served.url, retries=2).encode(make_images(5)))
    served.models.faults += [Fault(code="UNAVAILABLE")] * 2
    with pytest.raises(client.EncodingError, match="HTTP 503: a fault of the test"):
        client.Client(served.url, retries=1).encode(make_images(5))
    with pytest.raises(client.EncodingError, match=":1/v1/models/m:predict: no answer"):
        client.Client("http://127.0.0.1:1/v1/models/m", retries=1).encode(make_images(1))


def test_an_answer_of_something_else_is_refused(client: ModuleType, served: Served) -> None:
    served.models.faults += [Fault(change=lambda arrays: {"mean": arrays["mean"]})]
    with pytest.raises(client.EncodingError, match="not that of an encoder"):
        client.Client(served.url).encode(make_images(2))
    served.models.faults += [Fault(change=lambda arrays: {k: v[:1] for k, v in arrays.items()})]
    with pytest.raises(client.EncodingError, match="features of 1 images, not of 2"):
        client.Client(served.url).encode(make_images(2))


@pytest.mark.parametrize(
    "images", [np.zeros([1, 8, 8, 1], int), np.array([np.nan]), "x", [io], [], np.zeros(0)]
)
def test_images_that_no_signature_takes_are_refused(client: ModuleType, images: object) -> None:
    """Whole numbers of 64 bits could be grey levels or intensities."""
    with pytest.raises(client.EncodingError, match="images"):
        client.Client("http://127.0.0.1:1/v1/models/m").encode(images)
