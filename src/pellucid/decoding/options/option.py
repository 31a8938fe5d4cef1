"""What defines one decoding option: validation, the command line and the documents all read it from here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pellucid.decoding.options.rules import Rule

Group = Literal["How long", "What is drawn", "What is favoured or excluded", "How it is searched"]


@dataclass(frozen=True)
class Option:
    """rule: which values it may have. help: what it does, in one sentence. group: under which heading it is listed.
    placeholder: what stands for its value in `help` and on the command line. of_the_model: it follows from the model,
    and a caller does not give it."""

    rule: Rule
    help: str
    group: Group
    placeholder: str | None = None
    of_the_model: bool = False


def option(
    default: Any,
    rule: Rule,
    help: str,
    group: Group,
    placeholder: str | None = None,
    *,
    of_the_model: bool = False,
) -> Any:
    """A dataclass field that is an option."""
    return dataclasses.field(default=default, metadata={"option": Option(rule, help, group, placeholder, of_the_model)})


def options_of(kind: Any) -> Iterator[tuple[str, Option, Any]]:
    """The name, definition and default of every option of a dataclass, in order."""
    for field in dataclasses.fields(kind):
        yield field.name, field.metadata["option"], field.default
