"""The table by which a value prints itself: results and records look their pictures up here, `views/` fills it.

So a value can have `__rich__` (terminals) and `_repr_html_` (notebooks) without knowing who draws it. The table is
filled when the first value is looked at: most programs that decode show nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from importlib import import_module
from typing import Any

# What fills the table when it is imported.
_VIEWS = "pellucid.views"


@singledispatch
def terminal(value: Any) -> Any:
    """A rich renderable of a value; its plain repr where nothing is registered for its type."""
    drawn = _looked_up(terminal, value)
    return repr(value) if drawn is None else drawn(value)


@singledispatch
def html(value: Any) -> str | None:
    """An HTML fragment of a value; None, a notebook's word for "print it instead", where nothing is registered."""
    drawn = _looked_up(html, value)
    return None if drawn is None else drawn(value)


def _looked_up(table: Any, value: Any) -> Callable[[Any], Any] | None:
    """What is registered for a value's type once the table is filled; None where nothing is."""
    import_module(_VIEWS)
    found: Callable[[Any], Any] = table.dispatch(type(value))
    return None if found is table.dispatch(object) else found


class Displayed:
    """Gives a class the look that is registered for it."""

    def __rich__(self) -> Any:
        return terminal(self)

    def _repr_html_(self) -> str | None:
        return html(self)
