"""Keyword arguments that a call does not support: an error that names them and says what to do instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pellucid.errors import PellucidError


@dataclass(frozen=True)
class Unsupported:
    """An argument that Transformers has and Pellucid does not.

    accepted: the values that ask for nothing beyond what happens anyway. instead: what to do in place of the others.
    """

    accepted: tuple[Any, ...]
    instead: str


def check_keywords(
    call: str,
    given: Mapping[str, Any],
    supported: Iterable[str],
    unsupported: Mapping[str, Unsupported],
    error: type[PellucidError],
) -> dict[str, Any]:
    """The supported ones of `given`.

    Raises `error` for a name that is neither supported nor known, with the nearest supported name, and for an
    unsupported argument with a value that would have an effect.
    """
    supported = tuple(supported)
    for name, value in given.items():
        if name in supported:
            continue
        if name not in unsupported:
            raise error(f"{call} has no argument {name}{_hint(name, supported)}")
        if not any(value is accepted or value == accepted for accepted in unsupported[name].accepted):
            raise error(f"{call} does not support {name}={value!r}: {unsupported[name].instead}")
    return {name: value for name, value in given.items() if name in supported}


def _hint(name: str, supported: tuple[str, ...]) -> str:
    near = get_close_matches(name, supported, n=1)
    return f"; did you mean {near[0]}?" if near else f"; it has {', '.join(sorted(supported))}"
