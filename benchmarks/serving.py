"""Measures the speed of an export, in this process and over gRPC, for each form of images.

    python benchmarks/serving.py [--threads N] [--seconds S] [--output results/serving.json]

The model is an untrained one of the default size, which is as fast as a trained one. The gRPC
server is that of the tests, in a separate process on this machine. It shows the cost of the
protocol and of the client, but not the speed of TF Serving.

The last lines compare, in turn, at batches of 1,024: the encoder's bare matrix products in float32;
its network, which adds the activations; a call of the export; and whole runs of `extract_features`,
from file to file. Calls and runs are those of exports in float32 and in bfloat16. The second number
of a line is the processor time, of all threads.
"""

import argparse
import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfp_smvi.core.runtime import environment, set_threads
from tfp_smvi.core.startup import quiet_tensorflow

quiet_tensorflow()
import tensorflow as tf

from tfp_smvi.config import ExportPrecision, FeaturesConfig, ModelConfig
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


def make_export(model: VAE, folder: Path, precision: ExportPrecision = "float32") -> Path:
    """Saves an encoder with the signatures of `tfp-smvi export`."""
    part = encoder_part(model, "intensities", precision)
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


def ten_times(call: Callable[[], Any]) -> Callable[[], None]:
    """Ten calls in a row, which find their weights in the caches as those of a long run do."""

    def calls() -> None:
        for _ in range(10):
            call()

    return calls


def measure_bulk(
    model: VAE,
    encoders: Mapping[ExportPrecision, LocalEncoder],
    files: Sequence[Path],
    rounds: int,
) -> dict[str, dict[str, float]]:
    """Images per second, of wall and of processor time, by the medians; the calls take turns.

    Args:
        model: the model.
        encoders: its exports.
        files: pixels of many images; the first 1,024 of the first are the batch.
        rounds: the calls of each that count.
    """
    batch = np.load(files[0])[:1024]
    x = tf.constant(batch.reshape(1024, -1) / np.float32(255))
    network = tf.function(lambda: model.encoder(x))
    config = FeaturesConfig(batch_size=1024, in_flight=2)
    output = files[0].with_name("features.npz")
    calls: dict[str, tuple[Callable[[], Any], int]] = {
        "matrix products": (ten_times(matrix_products(model, x)), 10_240),
        "network": (ten_times(lambda: network().numpy()), 10_240),
    }
    for precision, encoder in encoders.items():
        encode = functools.partial(encoder.encode, "uint8", batch)
        calls[f"export, {precision}"] = (ten_times(encode), 10_240)
        for path in files:
            source = open_images(path)
            calls[f"features of {source.num_images:,} images, {precision}"] = (
                lambda s=source, e=encoder: extract_features(s, e, output, config),
                source.num_images,
            )
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, (call, _) in calls.items():
            output.unlink(missing_ok=True)
            started = time.perf_counter(), time.process_time()
            call()
            ended = time.perf_counter(), time.process_time()
            times[name].append((ended[0] - started[0], ended[1] - started[1]))
    speeds = {
        name: count / np.median(times[name][1:], axis=0) for name, (_, count) in calls.items()
    }
    return {name: dict(zip(("wall", "cpu"), v.tolist(), strict=True)) for name, v in speeds.items()}


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
        mnist = load_dataset("mnist")
        export, pixels = make_export(model, Path(folder)), mnist.test.pixels
        local = LocalEncoder(export)
        reduced = LocalEncoder(make_export(model, Path(folder) / "bfloat16", "bfloat16"))
        files = [Path(folder) / "test.npy", Path(folder) / "train.npy"]
        np.save(files[0], pixels)
        np.save(files[1], mnist.train.pixels)
        print(
            "| form | batch | bytes/image | local, images/s | gRPC, images/s |\n"
            "|---|---|---|---|---|"
        )
        with server_process(export, arguments.threads) as endpoint:
            served = connect(endpoint, CONFIG)
            rows = measure_forms(local, served, pixels[:1024], arguments.seconds)
            served.close()
        encoders: dict[ExportPrecision, LocalEncoder] = {"float32": local, "bfloat16": reduced}
        bulk = measure_bulk(model, encoders, files, arguments.rounds)
    _print_bulk(bulk)
    if arguments.output:
        details = {"cpus": os.cpu_count(), **environment().to_json()}
        write_json(arguments.output, {"forms": rows, "bulk": bulk, **details})
        print(json.dumps(details["machine"]), file=sys.stderr)


def _print_bulk(bulk: dict[str, dict[str, float]]) -> None:
    print()
    for name, speeds in bulk.items():
        wall, cpu = (speeds[key] / bulk["matrix products"][key] for key in ("wall", "cpu"))
        print(
            f"{name}: {speeds['wall']:.0f} images/s, {100 * wall:.0f} % of the matrix products "
            f"({100 * cpu:.0f} % by processor time)"
        )


if __name__ == "__main__":
    main()
