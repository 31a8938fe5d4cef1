"""Ctrl-C waits where it would be lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from pellucid.cli.signals import signals_wait


@pytest.fixture
def hears_interrupts() -> Iterator[None]:
    """As in a person's terminal; a test run in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_comes_when_the_block_has_ended(hears_interrupts: None) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), signals_wait():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest of the block")
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_one_nothing_happens(hears_interrupts: None) -> None:
    with signals_wait():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_blocks_own_error_goes_before_an_interrupt(hears_interrupts: None) -> None:
    with pytest.raises(ValueError, match="its own"), signals_wait():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("its own")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_interrupt_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_wait():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
