"""Parsers for views: elements and text of an HTML fragment, and output for a terminal."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from typing import Any

from rich.console import Console

# Text that could break a page or control a terminal, and the replacement character of lost bytes.
STEERING = {"\ufffd", "\x1b", "\u202e", "\r", "\x00", "\x07", "\x9b"}

_EMPTY = {"br", "img", "hr"}
_HARMLESS = {"div", "p", "span", "b", "i", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"} | {
    "style", "svg", "g", "rect", "path", "text", "title", "image", "br"
}  # fmt: skip


class Page(HTMLParser):
    """Parser of a fragment; its elements must be balanced."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(fragment)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _EMPTY:
            self.open.append(tag)
        self.elements.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    @property
    def titles(self) -> list[str]:
        """The tooltips."""
        return [attributes["title"] or "" for _, attributes in self.elements if "title" in attributes]

    @property
    def everything(self) -> str:
        return "\n".join([*self.said, *self.titles])


def self_contained(fragment: str | None) -> Page:
    """The parsed fragment. Checks that it runs no code, fetches nothing, and has only the elements of views."""
    assert fragment is not None
    page = Page(fragment)
    assert {tag for tag, _ in page.elements} <= _HARMLESS
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert (attributes.get("href") or "data:image/png;base64,").startswith("data:image/png;base64,")
        assert "url(" not in (attributes.get("style") or "")
    assert not STEERING.intersection(fragment)
    return page


def printed(renderable: Any, width: int = 80) -> str:
    """Output for a terminal without colours."""
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=False, highlight=False, emoji=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def on_the_page(renderable: Any, width: int = 80) -> str:
    """Like `printed`. Checks that no line is wider than the terminal and that there are no control characters."""
    from rich.cells import cell_len

    text = printed(renderable, width)
    assert max(cell_len(line.rstrip()) for line in text.split("\n")) <= width
    assert not STEERING.intersection(text)
    return text
