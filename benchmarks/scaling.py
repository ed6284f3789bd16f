"""One training by several processes: steps per second, and a model of the cost for more devices.

    python benchmarks/scaling.py [--batch-size 512] [--rounds 3] [--seconds 10]

Compares, in turns, in one run on this machine: one process of one thread, two processes of one
thread that share each batch, and one process of two threads. All train the default model on MNIST
at lam 0.5. Also timed are one process on half of the batch and the sum of the gradients over two
processes, from which the model follows:

    seconds(n) = compute(batch / n) + sum(n),    sum(n) = 2 (n - 1) / n * bytes / bandwidth

compute is linear in the batch, through the two points measured; bytes are those of the gradients;
the bandwidth is that of the sum measured here, or --bandwidth in GB/s. A ring sends 2 (n - 1) / n
times the gradients through each device. The prediction for n = 2 stands beside the measurement.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from typing import NamedTuple


class Case(NamedTuple):
    """What is timed: processes with threads that share batches; or the sum of gradients alone."""

    processes: int
    threads: int
    share: float = 1.0
    sums_only: bool = False


CASES = {
    "1 process, 1 thread": Case(1, 1),
    "2 processes, 1 thread each": Case(2, 1),
    "1 process, 2 threads": Case(1, 2),
    "1 process, 1 thread, half a batch": Case(1, 1, 0.5),
    "sum of the gradients, 2 processes": Case(2, 1, sums_only=True),
}


def main() -> None:
    """Times the cases in turns and prints the table and the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--hidden-sizes", default="1024,1024")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--bandwidth", type=float, help="GB/s between devices")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        measure(CASES[options.case], options)
        return
    times: dict[str, list[float]] = {name: [] for name in CASES}
    num_bytes = 0
    for _ in range(options.rounds):
        for name in CASES:
            seconds, num_bytes = run(name, options)
            times[name].append(seconds)
    report({name: statistics.median(values) for name, values in times.items()}, num_bytes, options)


def run(name: str, options: argparse.Namespace) -> tuple[float, int]:
    """Runs a case in new processes; the seconds of a step, and the bytes of the gradients."""
    case = CASES[name]
    addresses = [f"127.0.0.1:{port}" for port in free_ports(case.processes)]
    command = [sys.executable, __file__, "--case", name]
    for option in ("batch_size", "hidden_sizes", "seconds"):
        command += [f"--{option.replace('_', '-')}", str(getattr(options, option))]
    processes = []
    for rank in range(case.processes):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"), str(case.threads))
        environment = os.environ | threads | {"TF_CONFIG": json.dumps(task)}
        processes.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        )
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{name} failed; run with --case to see why.")
    result = json.loads(outputs[0])
    return result["seconds"], result["bytes"]


def measure(case: Case, options: argparse.Namespace) -> None:
    """Times a case in this process, and prints it as JSON."""
    from tfp_smvi.config import ModelConfig, TrainConfig
    from tfp_smvi.data import load_dataset, train_batches
    from tfp_smvi.models.vae import VAE
    from tfp_smvi.training.devices import OneDevice
    from tfp_smvi.training.distributed import connect_devices
    from tfp_smvi.training.trainer import Trainer

    devices = connect_devices() or OneDevice()
    sizes = tuple(int(size) for size in options.hidden_sizes.split(","))
    size = int(case.share * options.batch_size)
    split = load_dataset("mnist").train
    config = TrainConfig(lam=0.5, batch_size=size, planned_epochs=1, epochs=1, lam_warmup_steps=100)
    with devices.scope():
        model = VAE(ModelConfig("bernoulli", hidden_sizes=sizes), split.image_shape)
    trainer = Trainer(model, config, split.num_examples // size, devices)
    gradients = {v.name: v.numpy() for v in model.trainable_variables}
    batches = iter(train_batches(split, batch_size=size, seed=0, binarize=True))
    count = 2

    def call() -> int:
        if case.sums_only:
            devices.of_chief(gradients)
            return 1
        trainer.train(batches, count)
        return count

    call()
    started, steps = time.monotonic(), 0
    # All processes must make the same number of calls.
    while devices.agree(int(time.monotonic() - started < options.seconds), 0)[0]:
        steps += call()
    seconds = (time.monotonic() - started) / steps
    print(json.dumps({"seconds": seconds, "bytes": sum(g.nbytes for g in gradients.values())}))


def report(times: dict[str, float], num_bytes: int, options: argparse.Namespace) -> None:
    """Prints the measurements, and the model for 2 to 64 devices."""
    base, two, threads, half, summed = (times[name] for name in CASES)
    print(f"batch {options.batch_size}, hidden sizes {options.hidden_sizes}, {num_bytes:,} bytes")
    for name, seconds in times.items():
        print(f"{name:<36}{1e3 * seconds:>9.2f} ms")
    print(f"2 processes against 1 of one thread: {base / two:.2f} times the steps")
    print(f"2 processes against 1 of two threads: {threads / two:.2f} times the steps")
    slope = 2.0 * (base - half)  # of the whole batch
    fixed = base - slope
    bandwidth = 1e9 * options.bandwidth if options.bandwidth else num_bytes / summed
    print(f"\nModel: {1e3 * fixed:.2f} ms + {1e3 * slope:.2f} ms / n, {bandwidth / 1e9:.2f} GB/s")
    print(f"{'devices':>8}{'MB sent':>10}{'ms':>10}{'speed-up':>10}")
    for n in (2, 4, 8, 16, 32, 64):
        sent = 2.0 * (n - 1) / n * num_bytes
        seconds = fixed + slope / n + sent / bandwidth
        beside = f"  measured: {1e3 * two:.2f} ms" if n == 2 and not options.bandwidth else ""
        print(f"{n:>8}{sent / 1e6:>10.2f}{1e3 * seconds:>10.2f}{base / seconds:>10.2f}{beside}")


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


if __name__ == "__main__":
    main()
