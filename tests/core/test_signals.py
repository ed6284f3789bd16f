"""The handlers of the signals that ask a process to stop."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tfp_smvi.core.signals import STOP_SIGNALS, handle_stop_signals, is_running

# Every one of these has its effect; see SIGHUP's own tests for a second one of it.
BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def old() -> Iterator[list[int]]:
    """The signals that the handlers of before receive."""
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in STOP_SIGNALS
    }
    yield received
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", BOTH)
def test_the_handler_receives_all_signals_until_the_old_one_is_back(
    number: int, old: list[int]
) -> None:
    received: list[int] = []
    with handle_stop_signals(received.append):
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert (received, old) == ([number, number], [])
    signal.raise_signal(number)
    assert (received, old) == ([number, number], [number])


@pytest.mark.parametrize("number", BOTH)
def test_a_handler_for_once_leaves_the_second_signal_to_the_old_one(
    number: int, old: list[int]
) -> None:
    received: list[int] = []
    with handle_stop_signals(received.append, once=True):
        signal.raise_signal(number)
        for second in BOTH:
            signal.raise_signal(second)
    assert (received, old) == ([number], [*BOTH])


@pytest.mark.parametrize("once", [True, False])
def test_a_second_hangup_does_nothing_until_the_end_of_the_block(
    once: bool, old: list[int]
) -> None:
    """A terminal that closes sends two, and the second must not end what saves at the first."""
    received: list[int] = []
    with handle_stop_signals(received.append, once=once):
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert (received, old) == ([signal.SIGHUP], [])
        signal.raise_signal(signal.SIGTERM)
        assert (received + old)[1:] == [signal.SIGTERM]
    signal.raise_signal(signal.SIGHUP)
    assert old[-1] == signal.SIGHUP


def test_a_handler_that_raises_ends_the_block_and_the_old_one_is_back(old: list[int]) -> None:
    def refuse(number: int) -> None:
        raise ValueError(number)

    with pytest.raises(ValueError, match="15"), handle_stop_signals(refuse):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert old == [signal.SIGTERM]


def test_another_thread_than_the_main_one_sets_no_handlers(old: list[int]) -> None:
    received: list[int] = []

    def work() -> None:
        with handle_stop_signals(received.append):
            signal.raise_signal(signal.SIGTERM)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (received, old) == ([], [signal.SIGTERM])


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_that_is_ignored_stays_ignored(number: int, old: list[int]) -> None:
    """As for a command that a shell started in the background, by cron or by nohup."""
    received: list[int] = []
    other = signal.SIGINT if number == signal.SIGTERM else signal.SIGTERM
    signal.signal(number, signal.SIG_IGN)
    with handle_stop_signals(received.append), handle_stop_signals(received.append, once=True):
        signal.raise_signal(number)
        signal.raise_signal(other)
    assert signal.getsignal(number) is signal.SIG_IGN
    signal.raise_signal(number)
    assert (received, old) == ([other], [])


def test_a_process_runs_whoever_has_started_it() -> None:
    """Process 1 is of root; no process has a number of 22 bits or of 100."""
    assert is_running(os.getpid())
    assert is_running(1)
    assert not is_running(1 << 22)
    assert not is_running(1 << 100)
