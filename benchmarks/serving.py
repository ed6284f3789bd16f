"""Measures the speed of an export, in this process and over gRPC, for each form of images.

    python benchmarks/serving.py [--threads N] [--seconds S] [--output results/serving.json]

The model is an untrained one of the default size, which is as fast as a trained one. The gRPC
server is that of the tests, in a separate process on this machine. It shows the cost of the
protocol and of the client, but not the speed of TF Serving.

The last lines compare, in turn, at batches of 1,024: the encoder's bare matrix products; its
network, which adds the activations; a call of the export; and a whole run of `extract_features`,
from file to file.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfp_smvi.core.runtime import environment, set_threads
from tfp_smvi.core.startup import quiet_tensorflow

quiet_tensorflow()
import tensorflow as tf

from tfp_smvi.config import FeaturesConfig, ModelConfig
from tfp_smvi.data import load_dataset
from tfp_smvi.export.signatures import encoder_part
from tfp_smvi.features.extraction import extract_features
from tfp_smvi.features.images import open_images
from tfp_smvi.models.vae import VAE
from tfp_smvi.serving.client import connect
from tfp_smvi.serving.encoders import LocalEncoder
from tfp_smvi.storage.atomic import write_json

BATCH_SIZES = (1, 4, 16, 64, 256, 1024)
FORMS = {"float": "serving_default", "uint8": "uint8", "encoded": "encoded_image"}
CONFIG = FeaturesConfig(timeout=120.0)


def make_export(model: VAE, folder: Path) -> Path:
    """Saves an encoder with the signatures of `tfp-smvi export`."""
    part = encoder_part(model, kind="intensities")
    module = tf.Module()
    module.weights = part.variables
    tf.saved_model.save(module, str(folder / "1"), signatures=dict(part.signatures))
    return folder / "1"


def images_per_second(call: Callable[[], Any], batch_size: int, seconds: float) -> float:
    """The speed by the median time of the calls within `seconds`, of at least 5 calls."""
    call()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 5:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return batch_size / statistics.median(times)


def matrix_products(model: VAE, x: tf.Tensor) -> Callable[[], Any]:
    """The encoder's matrix products alone, one after the other."""
    kernels = [tf.constant(layer.kernel) for layer in model.encoder.layers if layer.weights]

    @tf.function
    def products() -> tf.Tensor:
        y = x
        for kernel in kernels:
            y = tf.matmul(y, kernel)
        return y

    return lambda: products().numpy()


@contextlib.contextmanager
def server_process(export: Path, threads: int | None) -> Iterator[str]:
    """Serves an export with the tests' gRPC server in another process; yields the endpoint."""
    command = [
        sys.executable,
        __file__,
        "--serve",
        str(export),
        *(["--threads", str(threads)] if threads else []),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def serve(export: Path) -> None:
    """Serves until it is killed."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.support.servers import Models, grpc_server

    with grpc_server(Models({1: export})) as endpoint:
        print(endpoint, flush=True)
        sys.stdin.read()


def measure_forms(
    local: LocalEncoder, served: Any, pixels: np.ndarray, seconds: float
) -> list[dict[str, Any]]:
    """Speeds and bytes for each form and size of a batch."""
    encoded = [tf.io.encode_png(image).numpy() for image in pixels]
    rows = []
    for form, signature in FORMS.items():
        for size in BATCH_SIZES:
            values = {"float": pixels / np.float32(255), "uint8": pixels, "encoded": encoded}[form][
                :size
            ]
            rows.append(
                {
                    "form": form,
                    "batch_size": size,
                    "bytes_per_image": served.make_request(signature, values).ByteSize() / size,
                    "local": images_per_second(
                        lambda s=signature, v=values: local.encode(s, v), size, seconds
                    ),
                    "grpc": images_per_second(
                        lambda s=signature, v=values: served.encode(s, v), size, seconds
                    ),
                }
            )
            print(
                "| {form} | {batch_size} | {bytes_per_image:.0f} | {local:.0f} "
                "| {grpc:.0f} |".format(**rows[-1])
            )
    return rows


def measure_bulk(
    model: VAE, local: LocalEncoder, pixels: np.ndarray, rounds: int
) -> dict[str, float]:
    """Images per second by the median time of each call; the calls take turns."""
    batch = pixels[:1024]
    x = tf.constant(batch.reshape(1024, -1) / np.float32(255))
    network = tf.function(lambda: model.encoder(x))
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "x.npy", pixels)
        source, output = open_images(str(Path(folder) / "x.npy")), Path(folder) / "features.npz"
        config = FeaturesConfig(batch_size=1024, in_flight=2)
        calls: dict[str, tuple[Callable[[], Any], int]] = {
            "matrix products": (matrix_products(model, x), 1024),
            "network": (lambda: network().numpy(), 1024),
            "export, uint8": (lambda: local.encode("uint8", batch), 1024),
            "extract_features": (
                lambda: extract_features(source, local, output, config, fresh=True),
                len(pixels),
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds + 1):
            for name, (call, _) in calls.items():
                started = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - started)
    return {name: count / statistics.median(times[name][1:]) for name, (_, count) in calls.items()}


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--output", type=Path, help="a JSON file")
    parser.add_argument("--rounds", type=int, default=15, help="of the last comparison")
    parser.add_argument("--serve", type=Path, metavar="EXPORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    if arguments.serve:
        serve(arguments.serve)
        return
    model = VAE(ModelConfig("bernoulli"), (28, 28, 1))
    with tempfile.TemporaryDirectory() as folder:
        export = make_export(model, Path(folder))
        pixels = load_dataset("mnist").test.pixels
        local = LocalEncoder(export)
        print(
            "| form | batch | bytes/image | local, images/s | gRPC, images/s |\n"
            "|---|---|---|---|---|"
        )
        with server_process(export, arguments.threads) as endpoint:
            served = connect(endpoint, CONFIG)
            rows = measure_forms(local, served, pixels[:1024], arguments.seconds)
            served.close()
        bulk = measure_bulk(model, local, pixels, arguments.rounds)
    print()
    for name, speed in bulk.items():
        print(
            f"{name}: {speed:.0f} images/s, {100 * speed / bulk['matrix products']:.0f} % of the "
            "matrix products"
        )
    if arguments.output:
        details = {"cpus": os.cpu_count(), **environment().to_json()}
        write_json(arguments.output, {"forms": rows, "bulk": bulk, **details})
        print(json.dumps(details["machine"]), file=sys.stderr)


if __name__ == "__main__":
    main()
