"""The examples of docs/clients.md, as they stand there: against servers, and against files."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import urllib3

from tests.support.forked import run_program
from tests.support.servers import (
    NAME,
    Models,
    encode_png,
    grpc_server,
    make_export,
    make_images,
    rest_server,
)
from tfp_smvi.export import standalone
from tfp_smvi.export.runtimes import add_formats

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^## ([^\n]*)$[^#]*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
# The addresses and names of the page, and the shape of its images.
GRPC, REST, MODEL, SHAPE = "127.0.0.1:8500", "127.0.0.1:8501", "mnist", "[2, 28, 28, 1]"


class Place(NamedTuple):
    """An export in a folder saved_models, servers of it, and its features of black images."""

    folder: Path
    grpc: str
    rest: str
    mean: np.ndarray

    def adapt(self, example: str) -> str:
        """The example, for the servers and the small images of this place."""
        for old, new in ((GRPC, self.grpc), (REST, self.rest), (MODEL, NAME)):
            example = example.replace(old, new)
        return example.replace(SHAPE, "[2, 8, 8, 1]")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("clients")
    export = make_export(folder / "saved_models" / NAME / "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standalone, "subprocess", SimpleNamespace(run=run_program))
        add_formats(export, ("onnx", "tflite"))
    model = tf.saved_model.load(str(export))
    black = tf.zeros([2, 8, 8, 1], tf.uint8)
    mean = model.signatures["uint8"](images=black)["mean"].numpy()
    models = Models({1: export})
    with ExitStack() as stack:
        endpoints = [stack.enter_context(serve(models)) for serve in (grpc_server, rest_server)]
        yield Place(folder, *(endpoint.split("/")[2] for endpoint in endpoints), mean)


def test_the_page_has_an_example_of_each_kind() -> None:
    kinds = ["A client to copy", "REST with requests", "gRPC", "ONNX Runtime", "TFLite"]
    assert [title for title, _ in EXAMPLES] == kinds


@pytest.mark.filterwarnings(r"ignore:[\s]*Warning. tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize(("title", "example"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_an_example_gives_the_features(
    title: str, example: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.delitem(sys.modules, "client", raising=False)
    values: dict[str, np.ndarray] = {}
    exec(compile(place.adapt(example), title, "exec"), values)
    np.testing.assert_allclose(values["mean"], place.mean, rtol=0, atol=1e-5)


def test_the_curl_of_the_page_gives_the_features(place: Place) -> None:
    """A shell expands the command; the request that curl would make is made here."""
    (block,) = re.findall(r"^## curl\n\n((?:    .*\n)+)", PAGE, re.MULTILINE)
    image = make_images(1)[0]
    (place.folder / "seven.png").write_bytes(encode_png(image))
    script = 'curl() { printf "%s\\0" "$@"; }\n' + place.adapt(block)
    shell = subprocess.run(
        ["bash", "-c", script], cwd=place.folder, capture_output=True, check=True
    )
    option, body, url = shell.stdout.decode().split("\0")[:3]
    assert option == "-d"
    response = urllib3.request("POST", url, body=body)
    assert response.status == 200, response.data
    (prediction,) = response.json()["predictions"]
    signature = tf.saved_model.load(str(place.folder / "saved_models" / NAME / "1")).signatures
    expected = signature["uint8"](images=tf.constant(image[None]))["mean"][0]
    np.testing.assert_allclose(prediction["mean"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", ["docs/clients.md", "docs/export.md"])
def test_examples_have_few_lines(path: str) -> None:
    """Six lines beside imports: what is longer is no example to type."""
    for example in re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.DOTALL):
        lines = [line for line in example.splitlines() if line and "import " not in line]
        assert len(lines) <= 6
