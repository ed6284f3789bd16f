"""TF Serving itself, if tensorflow_model_server is on the PATH or Docker runs, as in CI."""

import json
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
import urllib3
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from tests.support import runs
from tests.support.ports import free_port
from tests.support.runs import ReferenceRun
from tests.support.servers import NAME, encode_png, make_images
from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.serving.client import connect
from tfp_smvi.serving.encoders import LocalEncoder, RejectedImagesError

pytestmark = [pytest.mark.tf_serving, pytest.mark.slow]

IMAGES = make_images(20)
FORMS = {
    "serving_default": IMAGES.astype(np.float32) / np.float32(255),
    "uint8": IMAGES,
    "encoded_image": [encode_png(image) for image in IMAGES],
}


class Served(NamedTuple):
    """A server that runs: what `serve` printed, the folder of the models, and the ports."""

    text: str
    models: Path
    grpc: str
    rest: str


def missing() -> str | None:
    """Why TF Serving cannot be run here; None where it can."""
    if shutil.which("tensorflow_model_server"):
        return None
    if not shutil.which("docker"):
        return "neither tensorflow_model_server nor docker is on the PATH"
    answer = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    return f"docker does not run: {answer.stderr.strip()}" if answer.returncode else None


def _publish_versions(reference: ReferenceRun, models: Path) -> None:
    """Two versions of an export, and a broken third one."""
    for _ in range(2):
        arguments = (
            "export",
            str(reference.run_dir),
            "--model-name",
            NAME,
            "--output",
            str(models),
        )
        process = runs.command(*arguments)
        assert process.returncode == 0, process.stderr
    shutil.copytree(models / NAME / "2", models / NAME / "3")
    (models / NAME / "3" / "saved_model.pb").write_bytes(b"broken")


@pytest.fixture(scope="module")
def served(reference: ReferenceRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`tfp-smvi serve` with two versions of an export and a broken third one, and its end."""
    if reason := missing():
        pytest.skip(reason)
    models = tmp_path_factory.mktemp("saved_models")
    _publish_versions(reference, models)
    ports = free_port(), free_port()
    line = [
        runs.script(),
        "serve",
        "--models",
        str(models),
        "--num-versions",
        "3",
        "--label",
        "stable=1",
    ]
    line += ["--grpc-port", str(ports[0]), "--rest-port", str(ports[1])]
    if shutil.which("tensorflow_model_server"):
        line += ["--host", "0.0.0.0"]  # it cannot listen on one address
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        text = ""
        for printed in server.stdout:
            text += printed
            if "Stop it" in printed:
                break
        assert server.poll() is None, "see the log above"
        yield Served(
            text,
            models,
            f"grpc://127.0.0.1:{ports[0]}/{NAME}",
            f"http://127.0.0.1:{ports[1]}/{NAME}",
        )
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 143
    with pytest.raises(SMVIError, match="does not answer"):
        connect(f"http://127.0.0.1:{ports[1]}/{NAME}", FeaturesConfig(retries=0))


@pytest.fixture(params=["grpc", "rest"])
def encoder(request: pytest.FixtureRequest, served: Served) -> Iterator[Any]:
    encoder = connect(getattr(served, request.param), FeaturesConfig())
    yield encoder
    encoder.close()


@pytest.mark.parametrize("signature", FORMS)
def test_served_features_are_the_local_ones(served: Served, encoder: Any, signature: str) -> None:
    local = LocalEncoder(served.models / NAME, 2).encode(signature, FORMS[signature])
    found = encoder.encode(signature, FORMS[signature])
    np.testing.assert_allclose(found.mean, local.mean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.stddev, local.stddev, rtol=0, atol=1e-5)


def test_metadata_describe_the_signatures_and_the_newest_version_that_works(
    served: Served, encoder: Any
) -> None:
    assert encoder.signatures == LocalEncoder(served.models / NAME, 2).signatures
    assert encoder.identity["version"] == 2


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
@pytest.mark.parametrize("which", [{"version": 1}, {"label": "stable"}])
def test_versions_and_labels_are_found(
    served: Served, protocol: str, which: dict[str, Any]
) -> None:
    encoder = connect(getattr(served, protocol), FeaturesConfig(), **which)
    assert encoder.identity["version"] == 1
    encoder.encode("uint8", IMAGES)
    encoder.close()


def test_status_over_rest_knows_the_broken_version(served: Served) -> None:
    url = served.rest.replace(f"/{NAME}", f"/v1/models/{NAME}")
    states = urllib3.request("GET", url).json()["model_version_status"]
    assert {state["version"] for state in states if state["state"] == "AVAILABLE"} == {"1", "2"}
    assert f"{NAME}, version 1, 2:" in served.text


def test_status_over_grpc_is_that_of_rest(served: Served) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = NAME
    with grpc.insecure_channel(served.grpc.split("/")[2]) as channel:
        response = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request)
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert {s.version for s in response.model_version_status if s.state == available} == {1, 2}


def test_warm_up_requests_are_played_back(served: Served) -> None:
    log = (served.models / "_server" / "server.log").read_text()
    assert "Finished reading warmup data for model" in log


def test_images_that_the_model_refuses_are_told_from_failures(encoder: Any) -> None:
    with pytest.raises(RejectedImagesError, match="PNG or a JPEG"):
        encoder.encode("encoded_image", [b"GIF89a"])
    with pytest.raises(RejectedImagesError, match=r"in \[0, 1\]"):
        encoder.encode("serving_default", np.full((1, *IMAGES.shape[1:]), 2.0, np.float32))


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_model_or_label_that_is_not_there_is_an_error(served: Served, protocol: str) -> None:
    endpoint = getattr(served, protocol)
    for where, which in ((endpoint.replace(NAME, "nobody"), {}), (endpoint, {"label": "nobody"})):
        with pytest.raises(SMVIError, match="check the name of the model"):
            connect(where, FeaturesConfig(retries=0), **which)


def test_the_curl_that_serve_shows_works(served: Served) -> None:
    (line,) = [line for line in served.text.splitlines() if line.startswith("Try: ")]
    process = subprocess.run(
        shlex.split(line.removeprefix("Try: ")), capture_output=True, text=True, check=True
    )
    (prediction,) = json.loads(process.stdout)["predictions"]
    assert prediction.keys() == {"mean", "stddev"}


def test_prometheus_finds_metrics(served: Served) -> None:
    url = served.rest.replace(f"/{NAME}", "/monitoring/prometheus/metrics")
    assert b"tensorflow:" in urllib3.request("GET", url).data


def test_a_folder_with_bad_files_loses_none_of_the_good_ones(
    served: Served, tmp_path: Path
) -> None:
    """The server merges the requests of a client, so that a bad image fails others with it."""
    folder, output = tmp_path / "images", tmp_path / "f.npz"
    folder.mkdir()
    bad = {5, 33, 34, 99}
    for number, image in enumerate(make_images(100)):
        (folder / f"{number:03d}.png").write_bytes(
            b"GIF89a" if number in bad else encode_png(image)
        )
    process = runs.command(
        *("features", str(folder), "--endpoint", served.grpc, "--output", str(output)),
        *("--batch-size", "8", "--on-error", "skip"),
    )
    assert process.returncode == 0, process.stderr
    with np.load(output) as found:
        assert found["ids"].tolist() == [f"{n:03d}.png" for n in range(100) if n not in bad]
