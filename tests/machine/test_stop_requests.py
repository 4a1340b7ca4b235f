"""Requests to stop: which signals are noted, what a second one does, and who gets them back."""

import signal
import threading

import pytest

from purejaxdqn.machine.stop_requests import SIGNALS, noting_stop_requests


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_handlers_are_given_back(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with noting_stop_requests() as asked:
        assert not asked()
        signal.raise_signal(number)
        assert asked() and asked.signal == number and asked.exit_code == 128 + number
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_second_ctrl_c_does_not_wait():
    with noting_stop_requests() as asked:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert asked.exit_code == 128 + signal.SIGTERM


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with noting_stop_requests() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_thread_notes_nothing_and_is_not_refused():
    found = []

    def body():
        with noting_stop_requests() as asked:
            found.append(asked())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [False]
