"""Interrupts are deferred in blocks that must not be interrupted."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from pellucid.cli.signals import deferred_signals


@pytest.fixture
def hears_interrupts() -> Iterator[None]:
    """Restore the default handler of SIGINT: a background process ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_is_raised_after_the_block(hears_interrupts: None) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), deferred_signals():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest of the block")
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_is_raised(hears_interrupts: None) -> None:
    with deferred_signals():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_of_the_block_takes_precedence_over_an_interrupt(hears_interrupts: None) -> None:
    with pytest.raises(ValueError, match="its own"), deferred_signals():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("its own")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_interrupt_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred_signals():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
