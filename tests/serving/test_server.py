"""Starting and stopping the server, with the programs of tests/support/fake_servers.py."""

import shlex
import socket
from pathlib import Path
from typing import Any

import pytest
import urllib3
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tests.support.errors import refused
from tests.support.fake_servers import install_docker, install_server
from tests.support.servers import NAME, Models, free_port, make_export, rest_server
from tfp_smvi.config import ServeConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.serving import server
from tfp_smvi.serving.plan import IMAGE, plan_server
from tfp_smvi.serving.server import serve


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
    ports = {"grpc_port": free_port(), "rest_port": free_port()}
    return ServeConfig(**{"models": str(folder), "model_name": NAME, **ports, **settings})


def test_the_server_on_the_path_comes_first(programs: Path, models: Path) -> None:
    install_server(programs)
    install_docker(programs)
    plan = plan_server(make_config(models, grpc_port=8500, rest_port=8501))
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
    plan = plan_server(make_config(models, grpc_port=1, rest_port=2))
    text = " ".join(plan.command)
    assert f"source={models},target=/models,readonly" in text
    assert "-p 127.0.0.1:1:8500 -p 127.0.0.1:2:8501" in text
    assert f"--entrypoint tensorflow_model_server {IMAGE} --port=8500 --rest_api_port=8501" in text
    assert "--model_config_file=/models/_server/models.config" in text
    assert f'base_path: "/models/{NAME}"' in plan.files["models.config"]
    everywhere = plan_server(make_config(models, host="0.0.0.0", grpc_port=1, rest_port=2))
    assert "-p 0.0.0.0:1:8500 -p 0.0.0.0:2:8501" in " ".join(everywhere.command)


def test_a_server_that_listens_everywhere_is_not_started_for_one_address(
    programs: Path, models: Path
) -> None:
    install_server(programs)
    with refused("host", "127.0.0.1"):
        plan_server(make_config(models, host="127.0.0.1"))
    install_docker(programs)
    assert plan_server(make_config(models, host="127.0.0.1", docker=True)).command[0] == "docker"


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
    monkeypatch.setattr(server, "GRACE", -4 if mode == "stubborn" else 30)
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
    session = Session(make_config(models))
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
        Session(make_config(models)).run()


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
        with refused(name, port):
            session.run()
    assert not (models / "_server").exists()


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
    flags = plan_server(make_config(models, grpc_port=8500, rest_port=8501)).command
    flags = flags[flags.index(IMAGE) + 1 :]
    assert [
        line.strip()[2:] for line in text.splitlines() if line.strip().startswith("- --")
    ] == list(flags)
    assert f"image: {IMAGE}\n" in text
