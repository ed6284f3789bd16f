"""The log of a run: each epoch once, in metrics.jsonl and in TensorBoard."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import runs
from tests.support.runs import event_steps
from tfp_smvi.config import ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.directory import RunDirectory
from tfp_smvi.runs.log import MetricsLog
from tfp_smvi.runs.records import (
    TEST_METRICS,
    TRAIN_METRICS,
    EpochRecord,
    Metrics,
    TrainMetrics,
    read_history,
)

# The divergence is not computed on training data at lam = 0.
CURVES = {f"{name}/train" for name in TRAIN_METRICS if name != "divergence"}
CURVES |= {f"{name}/test" for name in TEST_METRICS}
IMAGES = np.full((3, 4, 4, 1), 0.5, np.float32)


def make_run(path: Path) -> RunDirectory:
    path.mkdir()
    return RunDirectory(path)


def make_model(image_shape: tuple[int, ...] = (4, 4, 1)) -> VAE:
    return VAE(ModelConfig(likelihood="bernoulli", latent_dim=2, hidden_sizes=(3,)), image_shape)


def record(epoch: int) -> EpochRecord:
    """An epoch of 10 steps, at lam = 0."""
    return EpochRecord(
        epoch=epoch,
        step=10 * epoch,
        train=TrainMetrics(-1.0 / epoch, -1.0 / epoch, -0.5, 0.5, math.nan, 8.0),
        test=Metrics(-2.0, -2.0, -1.5, 0.5, 3.0),
        seconds=0.5,
    )


def as_lines(*epochs: int) -> list[Any]:
    return [record(epoch).to_json() for epoch in epochs]


def write_epochs(run: RunDirectory, behind: int, epochs: list[int]) -> None:
    """What a process writes whose checkpoint has a number of epochs behind it."""
    log = MetricsLog(run, [record(epoch) for epoch in range(1, behind + 1)], make_model(), IMAGES)
    for epoch in epochs:
        log.write(record(epoch))
    log.close()


def lines(run: RunDirectory) -> list[Any]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def test_each_epoch_is_a_line_and_a_point_of_each_curve(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_epochs(run, 0, [1, 2])
    assert lines(run) == as_lines(1, 2)
    # The divergence that was not computed has no curve.
    series = event_steps(run.path)
    assert series.keys() == {*CURVES, "reconstructions", "samples"}
    assert all(steps == [10, 20] for steps in series.values())


def test_epochs_after_the_checkpoint_are_forgotten_and_written_again_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_epochs(run, 0, [1, 2, 3])
    write_epochs(run, 1, [2])  # its checkpoint had one epoch behind it
    write_epochs(run, 2, [3, 4])
    assert lines(run) == as_lines(1, 2, 3, 4)
    assert all(steps == [10, 20, 30, 40] for steps in event_steps(run.path).values())


def test_start_from_zero_forgets_all(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_epochs(run, 0, [1, 2])
    write_epochs(run, 0, [1])
    assert lines(run) == as_lines(1)
    assert all(steps == [10] for steps in event_steps(run.path).values())


def test_torn_end_of_a_killed_process_does_no_harm(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_epochs(run, 0, [1, 2])
    with run.metrics.open("a") as file:
        file.write('{"epoch": 3, "st')
    (events,) = run.tensorboard.glob("events*")
    whole = events.read_bytes()
    for length in (len(whole) - 1, len(whole) - 13, 20, 5, 0):
        events.write_bytes(whole[:length])
        # What a process leaves that is killed while it rewrites the events must not be read as
        # events.
        (run.tensorboard / "rewritten.partial").write_bytes(whole)
        write_epochs(run, 0, [1])
        assert lines(run) == as_lines(1)
        assert all(steps == [10] for steps in event_steps(run.path).values())
        for extra in set(run.tensorboard.glob("events*")) - {events}:
            extra.unlink()


def test_garbled_events_do_not_stop_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_epochs(run, 0, [1, 2])
    (events,) = run.tensorboard.glob("events*")
    garbled = bytearray(events.read_bytes())
    garbled[len(garbled) // 2] ^= 255
    events.write_bytes(garbled)
    write_epochs(run, 2, [3])
    assert lines(run) == as_lines(1, 2, 3)
    steps = event_steps(run.path)["elbo/test"]
    assert steps == sorted(set(steps))
    assert steps[-1] == 30


@pytest.mark.parametrize("image_shape", [(16,), (4, 4, 2)])
def test_what_is_no_picture_is_not_drawn(tmp_path: Path, image_shape: tuple[int, ...]) -> None:
    run = make_run(tmp_path / "run")
    log = MetricsLog(run, [], make_model(image_shape), np.zeros((3, *image_shape), np.float32))
    log.write(record(1))
    log.close()
    assert event_steps(run.path).keys() == CURVES


def test_events_that_cannot_be_written_are_an_os_error(tmp_path: Path) -> None:
    """TensorFlow raises errors of its own, a different one for each way to fail."""
    run = make_run(tmp_path / "run")
    run.tensorboard.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="Not a directory") as caught:
        MetricsLog(run, [], make_model(), IMAGES)
    assert "function_node" not in str(caught.value)


def test_scalars_have_the_values_of_the_record(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    run = make_run(tmp_path / "run")
    write_epochs(run, 0, [3])
    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    (event,) = events.Tensors("elbo/train")
    assert make_ndarray(event.tensor_proto) == np.float32(-1 / 3)
    assert runs.event_steps(run.path)["elbo/train"] == [30]


def test_history_is_read_back_without_the_torn_end_of_a_killed_process(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert read_history(run.metrics) == ()
    write_epochs(run, 0, [1, 2])
    with run.metrics.open("a") as file:
        file.write('{"epoch": 3, "st')
    assert [epoch.to_json() for epoch in read_history(run.metrics)] == as_lines(1, 2)
    run.metrics.write_text("{}\n")
    with pytest.raises(SMVIError, match=r"metrics\.jsonl"):
        read_history(run.metrics)
