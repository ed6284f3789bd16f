"""The connection to a scheduler: what takes its place, its file, its certificates, its settings."""

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from tests.support.errors import refused
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.engines import dask_connection
from tfp_smvi.engines.dask_connection import find_scheduler


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A server that takes connections, and does not answer by itself."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def address_of(server: socket.socket, protocol: str = "tcp") -> str:
    return f"{protocol}://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_is_an_error(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suspended scheduler, and one of HTTP, which waits for a line; Dask itself never ends."""
    monkeypatch.setattr(dask_connection, "CONNECT_SECONDS", 0.5)
    with pytest.raises(SMVIError) as caught:
        find_scheduler(address_of(server), 0.0)
    assert f"no scheduler answers at {address_of(server)} (no answer in time)" in str(caught.value)


def test_a_server_that_is_not_one_of_dask_is_an_error(server: socket.socket) -> None:
    def greet() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

    threading.Thread(target=greet, daemon=True).start()
    with pytest.raises(SMVIError, match="no scheduler answers at") as caught:
        find_scheduler(address_of(server), 0.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["5", '"http://here"', '"file:/here"', '"tcp://here:1\\nx"'])
def test_a_file_with_no_address_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], address: str
) -> None:
    """Dask's client prints a traceback after some of them."""
    path = tmp_path / "scheduler.json"
    path.write_text(f'{{"address": {address}}}')
    with pytest.raises(SMVIError, match="which is not tcp:// or tls://") as caught:
        find_scheduler(f"file:{path}", 0.0)
    assert f"the file {path} has the address" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Makes a key and a certificate that it signs itself."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", f"/CN={name}"]
    paths = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *paths], check=True, capture_output=True)
    return key, certificate


def tls(ca: Path, key: Path, certificate: Path) -> dict[str, str]:
    """Dask's settings of a client."""
    names = {"ca-file": ca, "client.key": key, "client.cert": certificate}
    return {f"distributed.comm.tls.{name}": str(path) for name, path in names.items()}


def test_certificates_of_another_authority_are_named_as_the_reason(
    server: socket.socket, tmp_path: Path
) -> None:
    """A scheduler does answer, so that starting one would not help."""
    theirs, mine = make_certificate(tmp_path, "theirs"), make_certificate(tmp_path, "mine")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(theirs[1], theirs[0])

    def shake_hands() -> None:
        connection, _ = server.accept()
        with connection, pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    threading.Thread(target=shake_hands, daemon=True).start()
    with dask.config.set(tls(mine[1], *mine)), pytest.raises(SMVIError) as caught:
        find_scheduler(address_of(server, "tls"), 0.0)
    assert "do not accept each other's certificates (" in str(caught.value)
    assert "give all parts certificates of one authority" in str(caught.value)


def test_a_certificate_that_is_missing_is_named(tmp_path: Path) -> None:
    _, certificate = make_certificate(tmp_path, "mine")
    missing = tmp_path / "missing.key"
    address = "tls://127.0.0.1:1"
    with (
        dask.config.set(tls(certificate, missing, certificate)),
        refused("engine", address) as caught,
    ):
        find_scheduler(address, 0.0)
    assert f"(there is no file {missing})" in str(caught.value)


OPEN = """
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.engines.opening import open_engine
try:
    with open_engine("tcp://127.0.0.1:1"):
        pass
except SMVIError as error:
    print(error)
"""


def test_a_damaged_configuration_of_dask_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "distributed.yaml").write_text("distributed: [comm: {\n")
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path))
    process = subprocess.run(
        [sys.executable, "-c", OPEN], capture_output=True, text=True, check=False
    )
    assert process.stderr == ""
    assert process.stdout.startswith("Dask cannot be used (")
    assert str(tmp_path / "distributed.yaml") in process.stdout
    assert process.stdout.count("\n") == 1
