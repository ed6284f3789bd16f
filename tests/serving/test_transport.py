"""HTTP requests that end in time and take no more memory than allowed, whatever a server does."""

import contextlib
import errno
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from unittest import mock

import pytest

from tests.support.memory import peak_memory
from tests.support.servers import NAME
from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.serving.client import connect
from tfp_smvi.serving.served import TransientError
from tfp_smvi.serving.transport import Answer, Transport, WrongAnswerError

LIMIT = 1000
# Longer than any of these answers takes, and short for a test that waits for it.
TIMEOUT = 0.5

# Sends an answer over a connection.
Send = Callable[[socket.socket], object]


@contextlib.contextmanager
def server(send: Send) -> Iterator[str]:
    """A server that reads the beginning of each request and sends what it likes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as connection:
                    connection.recv(65536)
                    with contextlib.suppress(OSError):
                        send(connection)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def sent(body: bytes, *headers: str, status: str = "200 OK") -> Send:
    """Sends a whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    head = "\r\n".join([*lines, "", ""]).encode()
    return lambda connection: connection.sendall(head + body)


def dribbled(head: bytes) -> Send:
    """Sends a beginning, and then a byte now and then until the client has gone."""

    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            connection.sendall(b"x")
            time.sleep(TIMEOUT / 10)

    return send


def ask(send: Send, limit: int = LIMIT) -> bytes:
    with server(send) as url:
        transport = Transport(TIMEOUT)
        try:
            return transport.request("GET", url, limit).data
        finally:
            transport.close()


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nA: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["status", "header", "body", "body without a length", "length of a chunk"],
)
def test_a_server_that_dribbles_is_left_when_the_time_is_over(head: bytes) -> None:
    """Each read takes less than the limit of time; all of them together last 40 times as long."""
    started = time.monotonic()
    with pytest.raises(TransientError, match=r"no whole answer within 0\.5 s"):
        ask(dribbled(head))
    assert time.monotonic() - started < 10 * TIMEOUT


def test_a_connection_is_used_again_after_its_first_request() -> None:
    """Catches a deadline of an earlier request that ends a later one."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    def send(connection: socket.socket) -> None:
        connection.sendall(answer)
        time.sleep(TIMEOUT * 0.8)
        connection.recv(65536)
        time.sleep(TIMEOUT * 0.8)
        connection.sendall(answer)

    with server(send) as url:
        transport = Transport(TIMEOUT)
        transport.request("GET", url, LIMIT)
        time.sleep(TIMEOUT * 0.8)
        assert transport.request("GET", url, LIMIT).data == b"{}"
        transport.close()


def test_an_answer_of_the_limit_arrives_and_a_larger_one_is_refused() -> None:
    assert ask(sent(bytes(LIMIT))) == bytes(LIMIT)
    compressed = gzip.compress(bytes(LIMIT))
    assert ask(sent(compressed, "Content-Encoding: gzip")) == bytes(LIMIT)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert ask(lambda connection: connection.sendall(chunked)) == b"{}"
    for send in (
        sent(bytes(LIMIT + 1)),
        sent(gzip.compress(bytes(LIMIT + 1)), "Content-Encoding: gzip"),
        sent(b"damaged", "Content-Encoding: gzip"),
        sent(b"{}", "Content-Encoding: br"),
    ):
        with pytest.raises(WrongAnswerError):
            ask(send)


def test_an_answer_that_is_cut_short_is_a_failed_connection() -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"
    with pytest.raises(TransientError, match="the answer ended too early"):
        ask(lambda connection: connection.sendall(cut))


@pytest.mark.parametrize(
    ("send", "words"),
    [
        (lambda connection: connection.sendall(b"garbage\r\n\r\n"), "the answer is not HTTP"),
        (lambda connection: None, "the server closed the connection without an answer"),
    ],
    ids=["garbage", "nothing"],
)
def test_what_is_not_http_is_said_in_plain_words(send: Send, words: str) -> None:
    with pytest.raises(TransientError) as caught:
        ask(send)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "x"), "there is no machine of this name"),
        (TimeoutError(), "no answer in time"),
    ],
    ids=["refused", "name", "time"],
)
def test_a_connection_that_fails_is_said_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", mock.Mock(side_effect=error))
    with pytest.raises(TransientError) as caught:
        Transport(10.0).request("GET", "http://localhost:1", LIMIT)
    assert str(caught.value) == words


def test_values_are_counted_before_they_are_made() -> None:
    """An empty list has 3 bytes in an answer and 64 in Python."""
    lists = Answer(200, "OK", b"[" + b"[]," * 1_000_000 + b"[]]")

    def parse() -> None:
        with pytest.raises(ValueError, match="more than 50000 values"):
            lists.parse(50_000)

    assert peak_memory(parse) < 2**20
    rows = Answer(200, "OK", b'{"mean": [[1.5, NaN], [2, 3]]}')
    # The list, its rows, their numbers, and the object.
    assert rows.parse(7)["mean"][1] == [2, 3]
    with pytest.raises(ValueError, match="values"):
        rows.parse(6)


@pytest.mark.parametrize(
    ("send", "words"),
    [
        (sent(b"<html><title>404 Not &lt;here&gt;</title>", status="404 x"), "404 Not <here>"),
        (sent(b"<p>A <b>wrong</b>\nplace", status="500 x"), "HTTP 500: A wrong place"),
        (sent(b"", status="403 Forbidden"), "HTTP 403: Forbidden"),
        (sent(b"<html><title>Log in</title>"), r"not with features \(Log in\)"),
        (sent(b"[" * 100_000), "not with features"),
        (sent(b'{"model_spec": {"version": 1e999}}'), "larger than any number"),
        (sent(b"{}"), r"\(unknown form of metadata\)"),
        (sent(b'{"version": ' + b"9" * 5000 + b"}"), "it has a number of 5000 digits"),
        (sent(b"[" + b"[]," * 100_000 + b"[]]"), "it has more than 50000 values"),
        (sent(b"[" * 2**21), f"more than {2**20} bytes"),
        (sent(b'{"error": "\\u001b[2Jgone"}', status="403 x"), r"HTTP 403: \\x1b\[2Jgone"),
    ],
    ids=[
        "title",
        "tags",
        "nothing",
        "a page",
        "deep",
        "infinite",
        "empty",
        "digits",
        "lists",
        "large",
        "escapes",
    ],
)
def test_what_is_no_answer_of_a_model_is_one_printable_line(send: Send, words: str) -> None:
    with server(send) as url, pytest.raises(SMVIError, match=words) as caught:
        connect(f"{url}/{NAME}", FeaturesConfig(retries=0, timeout=10.0))
    assert str(caught.value).isprintable()
