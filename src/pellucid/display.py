"""Registry: type to renderer; `views` fills it.

A result looks its renderer up here, so results do not import `views`. `views` is an entry point of the group
`pellucid_renderers`, and is imported when the first value is displayed. Another package may register renderers alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache, singledispatch
from html import escape
from importlib.metadata import entry_points
from typing import Any, TypeVar

import numpy as np

# Characters: of one field in a repr, and of all of them.
_FIELD, _REPR = 40, 110

Result = TypeVar("Result")


@singledispatch
def terminal(value: Any) -> Any:
    """A rich renderable of a value; its repr if its type has no renderer."""
    from rich.text import Text

    draw = _renderer(terminal, value)
    return Text(repr(value)) if draw is None else draw(value)


@singledispatch
def html(value: Any) -> str | None:
    """An HTML fragment of a value: its plain text if its type has a renderer for terminals only, None if it has none.
    A notebook shows the repr in place of None."""
    draw = _renderer(html, value)
    if draw is not None:
        fragment: str | None = draw(value)
        return fragment
    return f"<pre>{escape(plain(value))}</pre>" if _renderer(terminal, value) is not None else None


def plain(value: Any, width: int | None = None) -> str:
    """A value as plain text, without colour. width: in columns; default: the terminal's width, or 80."""
    from rich.console import Console

    # In a notebook, rich would display what it captures.
    console = Console(
        width=width,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        markup=False,
        highlight=False,
        emoji=False,
    )
    with console.capture() as capture:
        console.print(terminal(value))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")


def _renderer(registry: Any, value: Any) -> Callable[[Any], Any] | None:
    """The renderer of a value's type; None if it has none."""
    load_renderers()
    found: Callable[[Any], Any] = registry.dispatch(type(value))
    return None if found is registry.dispatch(object) else found


@cache
def load_renderers() -> None:
    """Import what registers renderers, once."""
    for entry_point in entry_points(group="pellucid_renderers"):
        entry_point.load()


class Displayed:
    """Base of results: `print` and notebooks show the registered view, `repr` is one short line."""

    def __rich__(self) -> Any:
        return terminal(self)

    def __str__(self) -> str:
        return plain(self)

    def __repr__(self) -> str:
        """The dataclass's fields, shortened. An array is shown as its type and shape."""
        shown: list[str] = []
        for field in fields(self):  # type: ignore[arg-type]
            if field.repr:
                shown.append(f"{field.name}={_short(getattr(self, field.name))}")
                if len(", ".join(shown)) > _REPR:
                    shown[-1] = "..."
                    break
        return f"{type(self).__name__}({', '.join(shown)})"

    def _repr_html_(self) -> str | None:
        return html(self)


class Results(list[Result]):
    """A list of results that `print` and notebooks show one below the other."""

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        parts = [part for result in self for part in (Text(), terminal(result))]
        return Group(*parts[1:])

    def __str__(self) -> str:
        return "\n\n".join(map(str, self))

    def _repr_html_(self) -> str:
        return "".join(html(result) or f"<pre>{escape(repr(result))}</pre>" for result in self)


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, (tuple, list)) and len(value) > 8:
        return f"<{len(value)} items>"
    if isinstance(value, str) and len(value) > _FIELD:
        return f"{value[:_FIELD]!r}..."
    text = repr(value)
    if len(text) <= _FIELD:
        return text
    return f"<{len(value)} items>" if hasattr(value, "__len__") else f"<{type(value).__name__}>"
