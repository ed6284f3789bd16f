"""The log of a run: each epoch once, in metrics.jsonl and in TensorBoard."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToJson
from tensorboard.backend.event_processing import plugin_event_multiplexer
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.util.tensor_util import make_ndarray

from tests.support import runs
from tests.support.runs import event_steps
from tfp_smvi.config import ModelConfig, RunConfig
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
CONFIG = runs.config(epochs=4)
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


def write_epochs(
    run: RunDirectory, behind: int, epochs: list[int], config: RunConfig = CONFIG
) -> None:
    """What a process writes whose checkpoint has a number of epochs behind it."""
    history = [record(epoch) for epoch in range(1, behind + 1)]
    log = MetricsLog(run, config, history, make_model(), IMAGES)
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
    log = MetricsLog(
        run, CONFIG, [], make_model(image_shape), np.zeros((3, *image_shape), np.float32)
    )
    log.write(record(1))
    log.close()
    assert event_steps(run.path).keys() == CURVES


def test_events_that_cannot_be_written_are_an_os_error(tmp_path: Path) -> None:
    """TensorFlow raises errors of its own, a different one for each way to fail."""
    run = make_run(tmp_path / "run")
    run.tensorboard.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="Not a directory") as caught:
        MetricsLog(run, CONFIG, [], make_model(), IMAGES)
    assert "function_node" not in str(caught.value)


def test_curves_of_train_and_test_have_one_name_and_the_values_of_the_record(
    tmp_path: Path,
) -> None:
    """TensorBoard draws equal names of different folders into one chart."""
    run = make_run(tmp_path / "run")
    write_epochs(run, 2, [3])
    events = runs.read_events(run.path)
    for split in ("train", "test"):
        for number, event in enumerate(events[f"elbo/{split}"], start=1):
            expected = getattr(record(number), split).elbo
            assert make_ndarray(event.tensor_proto) == np.float32(expected)
    assert len(events["elbo/train"]) == len(events["elbo/test"]) == 3


def hparams_page(logdir: Path) -> tuple[Any, Any]:
    """What TensorBoard's HParams page gets: the experiment, and its sessions, as JSON."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(logdir)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(logdir))
    context = Context(TBContext(data_provider=provider))
    every = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_RUNNING]
    experiment = get_experiment.Handler(
        RequestContext(), context, "", api_pb2.GetExperimentRequest()
    )
    request = api_pb2.ListSessionGroupsRequest(allowed_statuses=every, slice_size=10)
    sessions = list_session_groups.Handler(RequestContext(), context, "", request)
    return tuple(json.loads(MessageToJson(handler.run())) for handler in (experiment, sessions))


def test_runs_of_several_lams_are_compared_on_the_hparams_page(tmp_path: Path) -> None:
    """Its JSON has no infinity, with which the page would end in an error."""
    for lam in (0.0, 0.5, math.inf):
        run = make_run(tmp_path / f"lam{lam}")
        write_epochs(run, 0, [1, 2], runs.config(lam=lam, clip_norm=math.inf))
        write_epochs(run, 1, [2, 3, 4], runs.config(lam=lam, clip_norm=math.inf))
    experiment, sessions = hparams_page(tmp_path)
    differing = {info["name"] for info in experiment["hparamInfos"] if info.get("differs")}
    assert differing == {"lam"}
    found = sessions["sessionGroups"]
    assert {group["hparams"]["lam"] for group in found} == {0.0, 0.5, "inf"}
    for group in found:
        (session,) = group["sessions"]  # a resumed run is not there twice
        assert session["status"] == "STATUS_SUCCESS"
        assert group["hparams"]["hidden_sizes"] == "32, 32"
        assert group["hparams"]["batch_size"] == 32
        (metric,) = [
            value
            for value in group["metricValues"]
            if value["name"] == {"group": "test", "tag": "objective"}
        ]
        assert (metric["value"], metric["trainingStep"]) == (record(4).test.objective, 40)


def test_a_run_that_is_not_at_its_end_is_not_shown_as_done(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_epochs(run, 0, [1, 2, 3, 4])
    write_epochs(run, 4, [5], runs.config(epochs=6))
    ((session,),) = [group["sessions"] for group in hparams_page(tmp_path)[1]["sessionGroups"]]
    assert "status" not in session  # unknown


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
