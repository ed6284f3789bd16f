"""Starting and stopping the server, with the programs of tests/support/fake_servers.py."""

import contextlib
import csv
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import urllib3
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tests.support.errors import refused
from tests.support.fake_servers import install_docker, install_server
from tests.support.ports import free_port
from tests.support.servers import NAME, Models, make_export, rest_server
from tfp_smvi.config import ServeConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.export.formats import FORMAT
from tfp_smvi.serving import docker, process, server
from tfp_smvi.serving.docker import IMAGE
from tfp_smvi.serving.listeners import Listener, find_listener
from tfp_smvi.serving.plan import LOG, plan_server
from tfp_smvi.serving.server import serve, write_files


class StopError(Exception):
    """Stands for a signal."""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH, empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    state = tmp_path / "docker"
    state.mkdir()
    monkeypatch.setenv("FAKE_DOCKER", str(state))
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with two models, NAME in three versions, and folders that are not versions."""
    folder = tmp_path / "saved models"
    for path in (
        f"{NAME}/1",
        f"{NAME}/2",
        f"{NAME}/10",
        "other/1",
        f"{NAME}/.11.partial",
        f"{NAME}/012",
    ):
        (folder / path).mkdir(parents=True)
        (folder / path / "saved_model.pb").touch()
    (folder / NAME / "11").mkdir()
    return folder


def make_config(folder: Path, **settings: Any) -> ServeConfig:
    """The settings of a server that is on the PATH; in Docker, host="127.0.0.1"."""
    ports = {"grpc_port": free_port(), "rest_port": free_port()}
    defaults = {"models": str(folder), "model_name": NAME, "host": "0.0.0.0", **ports}
    return ServeConfig(**{**defaults, **settings})


def test_all_interfaces_are_served_by_the_server_on_the_path(programs: Path, models: Path) -> None:
    install_server(programs)
    install_docker(programs)
    plan = plan_server(make_config(models, grpc_port=8500, rest_port=8501))
    assert plan.notes == ("Warning: the server listens on all interfaces, without a password.",)
    folder = models / "_server"
    assert plan.command == (
        "tensorflow_model_server",
        "--port=8500",
        "--rest_api_port=8501",
        f"--model_config_file={folder}/models.config",
        "--model_config_file_poll_wait_seconds=10",
        "--allow_version_labels_for_unavailable_models=true",
        "--enable_batching=true",
        f"--batching_parameters_file={folder}/batching.config",
        f"--monitoring_config_file={folder}/monitoring.config",
    )
    assert shlex.split(plan.shell_command) == list(plan.command)


def test_docker_serves_a_pinned_image_on_loopback(programs: Path, models: Path) -> None:
    install_docker(programs)
    plan = plan_server(ServeConfig(str(models), NAME, grpc_port=1, rest_port=2))
    assert plan.notes == ()
    text = " ".join(plan.command)
    assert f"source={models},target=/models,readonly" in text
    assert "-p 127.0.0.1:1:8500 -p 127.0.0.1:2:8501" in text
    assert f"--entrypoint tensorflow_model_server {IMAGE} --port=8500 --rest_api_port=8501" in text
    assert "--model_config_file=/models/_server/models.config" in text
    assert f'base_path: "/models/{NAME}"' in plan.files["models.config"]
    everywhere = plan_server(make_config(models, host="0.0.0.0", grpc_port=1, rest_port=2))
    assert "-p 0.0.0.0:1:8500 -p 0.0.0.0:2:8501" in " ".join(everywhere.command)


def test_a_server_that_listens_everywhere_is_not_started_unless_asked_for(
    programs: Path, models: Path
) -> None:
    """Without Docker there is no other, and with it that one is taken."""
    install_server(programs)
    with refused("host", "127.0.0.1") as caught:
        plan_server(ServeConfig(str(models)))
    assert "0.0.0.0 as {host}" in str(caught.value.remedy)
    install_docker(programs)
    plan = plan_server(ServeConfig(str(models)))
    assert plan.command[0] == "docker"
    (note,) = plan.notes
    assert note.startswith("Using Docker, because tensorflow_model_server cannot listen on 127.")


def test_a_path_with_a_comma_and_quotes_is_one_field_of_the_mount(
    programs: Path, models: Path
) -> None:
    """By the rules of CSV, as Docker reads it."""
    install_docker(programs)
    folder = models.rename(models.with_name('saved, "my" models'))
    command = plan_server(make_config(folder, host="127.0.0.1")).command
    (fields,) = csv.reader([command[command.index("--mount") + 1]])
    assert fields == ["type=bind", f"source={folder}", "target=/models", "readonly"]


def test_a_folder_whose_name_the_list_of_models_cannot_hold_is_refused(
    programs: Path, models: Path
) -> None:
    install_server(programs)
    folder = models.rename(models.with_name("\udcff"))
    with refused("models"):
        plan_server(make_config(folder))


def test_exports_of_older_versions_are_named(programs: Path, models: Path) -> None:
    """Before they are served; a card of this version and a model without one are not."""
    install_server(programs)
    card = {"signatures": {"encoded_image": {}}, "version": 2}
    (models / NAME / "2" / "model_card.json").write_text(json.dumps(card))
    (models / NAME / "10" / "model_card.json").write_text(json.dumps({**card, "format": FORMAT}))
    _, warning = plan_server(make_config(models)).notes
    assert warning.startswith(f"Warning: {models / NAME / '2'} was exported by an older version")


def test_with_no_server_the_message_says_how_to_install_one(programs: Path, models: Path) -> None:
    with pytest.raises(SMVIError, match=f"docker pull {IMAGE}") as error:
        plan_server(make_config(models))
    assert "apt-get install tensorflow-model-server" in str(error.value)


def test_the_newest_versions_are_served(programs: Path, models: Path) -> None:
    install_server(programs)
    config = plan_server(make_config(models, num_versions=3)).files["models.config"]
    assert "model_version_policy { latest { num_versions: 3 } }" in config
    assert f'base_path: "{models}/{NAME}"' in config
    every = plan_server(make_config(models, model_name=None)).files["models.config"]
    assert [line.strip() for line in every.splitlines() if "name: " in line] == [
        f'name: "{NAME}"',
        'name: "other"',
    ]


def test_labelled_versions_are_served_beside_the_newest(programs: Path, models: Path) -> None:
    install_server(programs)
    settings = {"labels": ("stable=1", "canary=10"), "num_versions": 1}
    config = plan_server(make_config(models, **settings)).files["models.config"]
    assert "specific { versions: 1 versions: 10 }" in config
    assert 'version_labels { key: "stable" value: 1 }' in config
    assert 'version_labels { key: "canary" value: 10 }' in config


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        ({"model_name": "nobody"}, "model_name", "nobody"),
        ({"labels": ("stable=3",)}, "labels", "stable=3"),
        ({"model_name": None, "labels": ("stable=1",)}, "labels", ("stable=1",)),
        ({"models": "/nowhere", "model_name": None}, "models", "/nowhere"),
    ],
)
def test_models_that_are_not_there_are_one_line(
    programs: Path, models: Path, settings: dict[str, Any], field: str, value: object
) -> None:
    install_server(programs)
    with refused(field, value):
        plan_server(make_config(models, **settings))


def test_the_list_of_models_is_what_tf_serving_reads(programs: Path, models: Path) -> None:
    """By TF Serving's protocol buffer; tensorflow-serving-api has none for the other two files."""
    install_server(programs)
    text = plan_server(make_config(models, labels=("stable=1",))).files["models.config"]
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (entry,) = parsed.model_config_list.config
    assert (entry.name, entry.base_path) == (NAME, f"{models}/{NAME}")
    assert list(entry.model_version_policy.specific.versions) == [1, 2, 10]
    assert dict(entry.version_labels) == {"stable": 1}


class Session:
    """Serves until all is ready, and then until a stop."""

    def __init__(self, config: ServeConfig) -> None:
        self.notes: list[str] = []
        self.text = ""
        self.plan = plan_server(config)

    def run(self) -> None:
        serve(self.plan, note=self.notes.append, ready=self._ready)

    def _ready(self, text: str) -> None:
        self.text = text
        raise StopError


def gone(port: int) -> bool:
    """Whether nothing listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("mode", ["good", "stubborn"])
def test_a_server_is_awaited_described_and_stopped(
    mode: str, programs: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", mode)
    # The test waits no longer than a second for a server that does not end.
    monkeypatch.setattr(process, "GRACE", -4 if mode == "stubborn" else 30)
    install_server(programs)
    session = Session(make_config(models))
    with pytest.raises(StopError):
        session.run()
    config = session.plan.config
    assert f"grpc://127.0.0.1:{config.grpc_port}/{NAME}" in session.text
    assert f"http://127.0.0.1:{config.rest_port}/v1/models/{NAME}" in session.text
    assert (
        f"Try: curl http://127.0.0.1:{config.rest_port}/v1/models/{NAME}/metadata" in session.text
    )
    assert gone(config.rest_port)


def test_docker_fetches_once_and_stops_its_container(
    programs: Path, models: Path, tmp_path: Path
) -> None:
    install_docker(programs)
    session = Session(make_config(models, host="127.0.0.1"))
    for notes in ([f"Fetching {IMAGE}, once"], []):
        session.notes.clear()
        with pytest.raises(StopError):
            session.run()
        assert session.notes == notes
        assert gone(session.plan.config.rest_port)
    calls = (tmp_path / "docker" / "calls").read_text().splitlines()
    name = f"tfp-smvi-serve-{session.plan.config.rest_port}"
    assert calls.count(f"stop --time 10 {name}") == 2
    assert calls.count(f"pull --quiet {IMAGE}") == 1


def test_docker_that_does_not_run_is_one_line(
    programs: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_docker(programs)
    monkeypatch.setenv("FAKE_DAEMON", "away")
    with pytest.raises(
        SMVIError, match=r"Cannot connect to the Docker daemon.*systemctl start docker"
    ):
        Session(make_config(models, host="127.0.0.1")).run()


def test_docker_that_hangs_is_one_line(
    programs: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_docker(programs)
    program = programs / "docker"
    program.unlink()
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    program.chmod(0o755)
    monkeypatch.setattr(docker, "ANSWER_SECONDS", 0.2)
    with pytest.raises(SMVIError, match=r"Docker does not answer \(no answer within 0\.2 s\)"):
        docker.prepare_docker(print)


def test_only_the_end_of_a_log_is_read(programs: Path, models: Path) -> None:
    install_server(programs)
    plan = plan_server(make_config(models))
    plan.folder.mkdir()
    with (plan.folder / LOG).open("wb") as log:
        log.truncate(2**40)  # it takes no room on the disk
        log.seek(0, os.SEEK_END)
        log.write(b"\n" + b"\n".join(b"line %d" % number for number in range(100)))
    ended = subprocess.CompletedProcess([], 3)
    lines = str(server._ended(plan, ended)).splitlines()  # type: ignore[arg-type]
    assert lines[1:] == [f"  line {number}" for number in range(85, 100)]


@pytest.mark.parametrize(
    ("mode", "settings", "words"),
    [
        ("dies", {}, r"ended with exit code 3; the end of .*server.log:\n.*\n  a reason to die"),
        (
            "never",
            {"wait": 3.0},
            r"no version of digits is available after 3 s \(version 1 is in state LOADING",
        ),
    ],
)
def test_a_server_that_does_not_come_up_is_an_error_that_says_why_and_is_stopped(
    mode: str,
    settings: dict[str, Any],
    words: str,
    programs: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_MODE", mode)
    install_server(programs)
    session = Session(make_config(models, **settings))
    with pytest.raises(SMVIError, match=words):
        session.run()
    assert gone(session.plan.config.rest_port)


def test_a_broken_version_beside_a_good_one_is_a_warning(
    programs: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "broken")
    install_server(programs)
    session = Session(make_config(models))
    with pytest.raises(StopError):
        session.run()
    assert session.notes == [f"Warning: {NAME} version 2 is in state END: no weights"]
    assert f"{NAME}, version 1:" in session.text


@pytest.mark.parametrize("name", ["grpc_port", "rest_port"])
def test_a_port_in_use_is_a_message_before_anything_starts(
    name: str, programs: Path, models: Path
) -> None:
    install_server(programs)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        session = Session(make_config(models, **{name: port}))
        with refused(name, port) as caught:
            session.run()
    assert f"there listens process {os.getpid()}, python" in caught.value.problem
    assert f"kill {os.getpid()}" in str(caught.value.remedy)
    assert not (models / "_server").exists()


def test_a_container_that_listens_is_named(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port belongs to a process of Docker's, which only root may look at."""
    install_docker(programs)
    monkeypatch.setenv("FAKE_CONTAINER", "tfp-smvi-serve-8501")
    assert find_listener(free_port()) == Listener(
        "the container tfp-smvi-serve-8501", "docker stop tfp-smvi-serve-8501"
    )
    monkeypatch.delenv("FAKE_CONTAINER")
    assert find_listener(free_port()) is None
    (programs / "docker").unlink()
    assert find_listener(free_port()) is None


class Second(Session):
    """Tries to serve as well when the first server is ready; records why it may not."""

    def __init__(self, config: ServeConfig, second: ServeConfig) -> None:
        super().__init__(config)
        self.second, self.errors = plan_server(second), list[SMVIError]()

    def _ready(self, text: str) -> None:
        self.record = json.loads((self.plan.folder / "server.json").read_text())
        for attempt in (
            lambda: serve(self.second, note=print, ready=print),
            lambda: write_files(self.second),
        ):
            with contextlib.suppress(StopError):
                try:
                    attempt()
                except SMVIError as error:
                    self.errors.append(error)
        super()._ready(text)


def test_a_second_server_says_what_serves_already(programs: Path, models: Path) -> None:
    """On the same models, whose files the first one reads again, and on its port."""
    install_server(programs)
    config = make_config(models)
    session = Second(config, make_config(models, model_name="other"))
    with pytest.raises(StopError):
        session.run()
    assert [error.field for error in session.errors] == ["models", "models"]
    expected = (
        f"process {session.record['pid']}, which serves {NAME} on 0.0.0.0, ports "
        f"{config.grpc_port} and {config.rest_port}, since "
    )
    assert all(expected in error.problem for error in session.errors)
    assert session.errors[0].remedy == f"stop it with: kill {os.getpid()}"
    assert not (session.plan.folder / "server.json").exists()

    elsewhere = shutil.copytree(models, models.with_name("elsewhere"))
    session = Second(config, make_config(elsewhere, rest_port=config.rest_port))
    with pytest.raises(StopError):
        session.run()
    (error,) = session.errors  # writing the files there is allowed
    assert (error.field, error.value) == ("rest_port", config.rest_port)
    assert f"process {session.record['pid']}, which serves {NAME}" in error.problem


_SERVE = """
import sys
from tfp_smvi.config import ServeConfig
from tfp_smvi.serving.listeners import Listener, find_listener
from tfp_smvi.serving.plan import plan_server
from tfp_smvi.serving.server import serve
folder, host, grpc_port, rest_port = sys.argv[1:]
config = ServeConfig(folder, host=host, grpc_port=int(grpc_port), rest_port=int(rest_port))
serve(plan_server(config), note=print, ready=lambda text: print("ready", flush=True))
"""


@pytest.mark.parametrize(
    ("host", "mode"), [("0.0.0.0", "stubborn"), ("127.0.0.1", "good")], ids=["native", "docker"]
)
def test_a_killed_process_takes_its_server_along(
    host: str, mode: str, programs: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that ignores SIGTERM; with Docker, its client ends the container."""
    monkeypatch.setenv("FAKE_MODE", mode)
    install_server(programs)
    install_docker(programs)
    config = make_config(models, host=host)
    line = [sys.executable, "-c", _SERVE, str(models), host]
    ports = [str(config.grpc_port), str(config.rest_port)]
    with subprocess.Popen([*line, *ports], stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        while "ready" not in serving.stdout.readline():
            assert serving.poll() is None
        assert not gone(config.rest_port)
        server_pid = json.loads((models / "_server" / "server.json").read_text())["pid"]
        serving.kill()
    deadline = time.monotonic() + 20
    while not gone(config.rest_port) and time.monotonic() < deadline:
        time.sleep(0.02)
    left_behind = not gone(config.rest_port)
    if left_behind:
        os.kill(server_pid, signal.SIGKILL)
    assert not left_behind
    # What it left behind does not stop the next one.
    monkeypatch.setenv("FAKE_MODE", "good")
    session = Session(config)
    with pytest.raises(StopError):
        session.run()


def test_a_log_that_is_a_link_is_replaced(programs: Path, models: Path, tmp_path: Path) -> None:
    install_server(programs)
    (tmp_path / "precious").write_text("precious")
    (models / "_server").mkdir()
    (models / "_server" / "server.log").symlink_to(tmp_path / "precious")
    with pytest.raises(StopError):
        Session(make_config(models)).run()
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_folder_of_files_that_is_a_link_is_refused(
    programs: Path, models: Path, tmp_path: Path
) -> None:
    install_server(programs)
    (models / "_server").symlink_to(tmp_path)
    with pytest.raises(SMVIError, match="is a link"):
        Session(make_config(models)).run()


def test_the_curl_that_is_shown_works(tmp_path: Path, programs: Path) -> None:
    """Against the twin of the REST protocol: the request is the one that curl would send."""
    install_server(programs)
    export = make_export(tmp_path / "exports" / NAME / "1")
    with rest_server(Models({1: export})) as endpoint:
        port = int(endpoint.split(":")[2].split("/")[0])
        plan = plan_server(make_config(tmp_path / "exports", rest_port=port))
        program, url, option, body = shlex.split(server._example(plan, NAME))
        assert (program, option) == ("curl", "-d")
        response = urllib3.request("POST", url, body=body)
    assert response.status == 200
    (prediction,) = response.json()["predictions"]
    assert prediction.keys() == {"mean", "stddev"}


def test_compose_starts_the_same(programs: Path, models: Path) -> None:
    install_docker(programs)
    text = (Path(__file__).parents[2] / "compose.yaml").read_text()
    settings = {"host": "127.0.0.1", "grpc_port": 8500, "rest_port": 8501}
    flags = plan_server(make_config(models, **settings)).command
    flags = flags[flags.index(IMAGE) + 1 :]
    assert [
        line.strip()[2:] for line in text.splitlines() if line.strip().startswith("- --")
    ] == list(flags)
    assert f"image: {IMAGE}\n" in text
