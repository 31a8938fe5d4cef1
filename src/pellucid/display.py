"""The table by which a value prints itself: results and records look their pictures up here, `views/` fills it.

So a value can have `__rich__` (terminals) and `_repr_html_` (notebooks) without knowing who draws it.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any


@singledispatch
def terminal(value: Any) -> Any:
    """A rich renderable of a value; its plain repr where nothing is registered for its type."""
    return repr(value)


@singledispatch
def html(value: Any) -> str | None:
    """An HTML fragment of a value; None, a notebook's word for "print it instead", where nothing is registered."""
    return None


class Displayed:
    """Gives a class the look that is registered for it."""

    def __rich__(self) -> Any:
        return terminal(self)

    def _repr_html_(self) -> str | None:
        return html(self)
