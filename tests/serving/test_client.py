"""The client of a served encoder, over sockets, against the servers of tests/support/servers.py."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.errors import refused
from tests.support.ports import free_port
from tests.support.servers import (
    LATENT_DIM,
    NAME,
    SERVERS,
    Fault,
    Models,
    Proxy,
    encode_png,
    make_export,
    make_images,
)
from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.serving.client import Endpoint, connect
from tfp_smvi.serving.encoders import LocalEncoder, RejectedImagesError

CONFIG = FeaturesConfig(timeout=20.0, retries=3)
IMAGES = make_images(5)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("exports") / NAME
    return {version: make_export(folder / str(version), seed=version) for version in (1, 2)}


@pytest.fixture(scope="module")
def loaded(exports: dict[int, Path]) -> Models:
    return Models(exports, {"stable": 1})


@pytest.fixture
def models(loaded: Models) -> Iterator[Models]:
    loaded.requests.clear()
    yield loaded
    loaded.faults.clear()
    loaded.largest_request = None


@pytest.fixture(params=SERVERS)
def endpoint(request: pytest.FixtureRequest, models: Models) -> Iterator[str]:
    with SERVERS[request.param](models) as endpoint:
        yield endpoint


@contextlib.contextmanager
def connected(endpoint: str, config: FeaturesConfig = CONFIG, **which: Any) -> Iterator[Any]:
    encoder = connect(endpoint, config, **which)
    try:
        yield encoder
    finally:
        encoder.close()


def forms(images: np.ndarray) -> dict[str, Any]:
    """The same images for each signature."""
    return {
        "serving_default": images.astype(np.float32) / np.float32(255),
        "uint8": images,
        "encoded_image": [encode_png(image) for image in images],
    }


@pytest.mark.parametrize("signature", ["serving_default", "uint8", "encoded_image"])
def test_served_features_are_the_local_ones(
    endpoint: str, exports: dict[int, Path], signature: str
) -> None:
    """1e-5 is the promise; JSON's decimals and gRPC's bytes both carry float32 exactly."""
    images = forms(IMAGES)[signature]
    local = LocalEncoder(exports[2].parent).encode(signature, images)
    with connected(endpoint) as encoder:
        served = encoder.encode(signature, images)
    for name in ("mean", "stddev"):
        np.testing.assert_allclose(getattr(served, name), getattr(local, name), rtol=0, atol=1e-5)
        assert getattr(served, name).dtype == np.float32


def test_the_signatures_and_the_version_come_from_the_server(
    endpoint: str, exports: dict[int, Path]
) -> None:
    with connected(endpoint) as encoder:
        assert encoder.signatures == LocalEncoder(exports[2]).signatures
        assert encoder.identity == {"endpoint": endpoint, "version": 2}


@pytest.mark.parametrize(
    ("which", "version"), [({}, 2), ({"version": 1}, 1), ({"label": "stable"}, 1)]
)
def test_every_request_names_the_version_that_was_chosen_first(
    endpoint: str, models: Models, which: dict[str, Any], version: int
) -> None:
    with connected(endpoint, **which) as encoder:
        encoder.encode("uint8", IMAGES)
        encoder.encode("uint8", IMAGES)
    assert models.requests == [(version, "uint8", 5)] * 2


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ({"version": 7}, "check the name of the model"),
        ({"label": "canary"}, "Unrecognized servable version label: canary"),
    ],
)
def test_a_version_that_is_not_there_is_an_error_at_once(
    endpoint: str, which: dict[str, Any], words: str
) -> None:
    with pytest.raises(SMVIError, match=words):
        connect(endpoint, CONFIG, **which)


def test_a_wrong_model_name_is_an_error_at_once(endpoint: str) -> None:
    with pytest.raises(SMVIError, match="Servable not found for request"):
        connect(endpoint.replace(NAME, "nobody"), CONFIG)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_a_busy_server_is_asked_again(endpoint: str, models: Models, code: str) -> None:
    models.faults = [Fault(code=code)] * CONFIG.retries
    with connected(endpoint) as encoder:
        encoder.encode("uint8", IMAGES)
    assert len(models.requests) == 1 + CONFIG.retries


def test_a_server_that_stays_busy_is_an_error_that_counts_the_attempts(
    endpoint: str, models: Models
) -> None:
    models.faults = [Fault(code="UNAVAILABLE")] * (CONFIG.retries + 1)
    with connected(endpoint) as encoder, pytest.raises(SMVIError, match="after 4 attempts"):
        encoder.encode("uint8", IMAGES)


def test_an_answer_that_comes_too_late_is_asked_for_again(endpoint: str, models: Models) -> None:
    config = FeaturesConfig(timeout=1.0, retries=1)
    with connected(endpoint, CONFIG) as encoder:
        encoder.encode("uint8", IMAGES)
    models.requests.clear()
    with connected(endpoint, config) as encoder:
        models.faults = [Fault(seconds=2.0)]
        encoder.encode("uint8", IMAGES)
        assert len(models.requests) == 2
        models.faults = [Fault(seconds=2.0)] * 2
        with pytest.raises(SMVIError, match="a larger timeout"):
            encoder.encode("uint8", IMAGES)


@pytest.mark.parametrize("protocol", SERVERS)
def test_connections_that_are_reset_are_made_again(models: Models, protocol: str) -> None:
    with SERVERS[protocol](models) as direct:
        where = Endpoint.parse(direct)
        proxy = Proxy(int(where.address.split(":")[1]))
        try:
            proxy.resets = 2
            endpoint = f"{where.scheme}://127.0.0.1:{proxy.port}/{NAME}"
            with connected(endpoint, FeaturesConfig(retries=8)) as encoder:
                assert proxy.resets == 0
                encoder.encode("uint8", IMAGES)
        finally:
            proxy.close()


@pytest.mark.parametrize("protocol", SERVERS)
def test_a_server_that_goes_and_comes_back_is_found_again(models: Models, protocol: str) -> None:
    port = free_port()
    with SERVERS[protocol](models, port) as endpoint:
        encoder = connect(endpoint, FeaturesConfig(retries=10))
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(encoder.encode("uint8", IMAGES)))
    thread.start()
    time.sleep(0.5)
    with SERVERS[protocol](models, port):
        thread.join()
    encoder.close()
    assert results[0].mean.shape == (5, LATENT_DIM)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_that_never_comes_is_an_error(scheme: str) -> None:
    with pytest.raises(SMVIError, match=r"does not answer .* after 3 attempts"):
        connect(f"{scheme}://127.0.0.1:{free_port()}/{NAME}", FeaturesConfig(retries=2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda out: {**out, "mean": out["mean"][:-1]}, r"mean as float32 \[4, 4\] for 5 examples"),
        (
            lambda out: {**out, "stddev": out["stddev"][:, :1]},
            r"stddev as float32 \[5, 1\] for 5 examples",
        ),
        (lambda out: {**out, "mean": out["mean"] * np.nan}, "mean that are not finite"),
        (lambda out: {**out, "stddev": -out["stddev"]}, "stddev that are negative"),
        (
            lambda out: {**out, "mean": np.full_like(out["mean"], b"x", dtype=object)},
            "features|mean as object",
        ),
    ],
    ids=["a row less", "other columns", "NaN", "a negative stddev", "texts"],
)
def test_what_is_no_features_is_an_error_at_once(
    endpoint: str, models: Models, change: Callable[..., Any], words: str
) -> None:
    if "rest" in str(endpoint) or endpoint.startswith("http"):
        inner = change

        def change(out: dict[str, np.ndarray]) -> dict[str, Any]:
            return {
                name: array if array.dtype != object else np.full(array.shape, "x")
                for name, array in inner(out).items()
            }

    models.faults = [Fault(change=change)]
    with connected(endpoint) as encoder, pytest.raises(SMVIError, match=words):
        encoder.encode("uint8", IMAGES)
    assert len(models.requests) == 1


@pytest.mark.parametrize("protocol", SERVERS)
def test_a_request_that_is_too_large_is_made_in_parts(
    models: Models, exports: dict[int, Path], protocol: str
) -> None:
    """Without a wait, and the next one is not tried as a whole again."""
    images = make_images(100)
    models.largest_request = {"grpc": 2000, "rest": 10_000}[protocol]
    with SERVERS[protocol](models) as endpoint, connected(endpoint) as encoder:
        for _ in range(2):
            features = encoder.encode("uint8", images)
    counts = [count for _, _, count in models.requests]
    assert sum(counts) == 200
    assert max(counts) == 25
    assert len(counts) == 8
    expected = LocalEncoder(exports[2]).encode("uint8", images)
    np.testing.assert_allclose(features.mean, expected.mean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(features.stddev, expected.stddev, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("protocol", "words"),
    [("grpc", "larger than max"), ("rest", "HTTP 413: 413 Request Entity Too Large")],
)
def test_one_image_that_is_too_large_is_an_error_at_once(
    models: Models, protocol: str, words: str
) -> None:
    models.largest_request = 100
    with (
        SERVERS[protocol](models) as endpoint,
        connected(endpoint) as encoder,
        pytest.raises(SMVIError, match=f"no request as large as one example.*{words}"),
    ):
        encoder.encode("uint8", IMAGES)
    assert models.requests == []


def test_an_array_of_one_value_many_times_is_refused_before_it_is_made(models: Models) -> None:
    """By gRPC: a message of 40 bytes can stand for terabytes."""
    models.faults = [Fault(change=lambda out: {**out, "mean": np.ones((2, 2), np.float32)})]
    with SERVERS["grpc"](models) as endpoint, connected(endpoint) as encoder:
        call = encoder._stub.Predict

        def predict(request: Any, **options: Any) -> Any:
            response = call(request, **options)
            response.outputs["mean"].tensor_shape.dim[0].size = 2**40
            return response

        encoder._stub.Predict = predict
        with pytest.raises(SMVIError, match="not with features"):
            encoder.encode("uint8", IMAGES)


def test_images_that_the_model_refuses_are_not_sent_again(endpoint: str, models: Models) -> None:
    with connected(endpoint) as encoder, pytest.raises(RejectedImagesError, match="PNG or a JPEG"):
        encoder.encode("encoded_image", [encode_png(IMAGES[0]), b"GIF89a"])
    assert len(models.requests) == 1


def test_answers_beyond_four_megabytes_arrive(tmp_path: Path) -> None:
    """gRPC refuses messages of more than 4 MB unless told otherwise; this answer has 8."""
    models = Models({1: make_export(tmp_path / NAME / "1", latent_dim=512)})
    images = make_images(2048)
    with SERVERS["grpc"](models) as endpoint, connected(endpoint) as encoder:
        features = encoder.encode("uint8", images)
    assert features.mean.nbytes + features.stddev.nbytes > 8e6


def test_uint8_images_take_a_byte_per_pixel_over_grpc(models: Models) -> None:
    """And 150 bytes at most for names and shapes."""
    images = make_images(1000)
    with SERVERS["grpc"](models) as endpoint, connected(endpoint) as encoder:
        small = encoder.make_request("uint8", images).ByteSize()
        large = encoder.make_request("serving_default", images.astype(np.float32) / 255).ByteSize()
    assert 64_000 < small < 64_150
    assert 256_000 < large < 256_150


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:8500",
        "grpc://localhost/digits",
        "http://localhost:8501",
        "ftp://localhost:1/x",
        "grpc://h:1/a/b",
        "grpc://h:0/a",
        "http://h:65536/a",  # which gRPC would take for 0
    ],
)
def test_an_endpoint_of_another_form_is_refused(text: str) -> None:
    with refused("endpoint", text):
        Endpoint.parse(text)
