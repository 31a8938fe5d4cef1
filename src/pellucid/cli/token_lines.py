"""The table of `pellucid tokens` as lines of text. rich takes seconds for the 25,000 rows of a text of 100 kB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from rich.cells import cell_len, chop_cells

_GAP = "   "
_DIM, _BOLD, _CYAN, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[36m", "\x1b[0m"
_STYLES = (_DIM, _BOLD, _CYAN, _DIM)
_LEAST_PIECE, _LEAST_BYTES = 8, 5  # least widths of these columns, in a narrow terminal
_WIDE = 60  # from this width of the terminal, the first column has a title


class TokenRow(NamedTuple):
    """A row of the table. piece: the token's quoted text. digits: its bytes in hexadecimal, separated by spaces."""

    piece: str
    token_id: int
    digits: str


def table_lines(rows: Sequence[TokenRow], width: int, has_styles: bool) -> Iterator[str]:
    """A heading and the rows in at most `width` columns; long pieces and their bytes are wrapped."""
    widths = _widths(rows, width)
    yield ""
    yield _line(["position" if widths[0] >= len("position") else "", "token", "id", "bytes"], widths)
    yield "─" * (sum(widths) + 3 * len(_GAP))
    for position, row in enumerate(rows):
        pieces, digits = chop_cells(row.piece, widths[1]), _wrapped(row.digits, widths[3])
        yield _line([str(position), pieces[0], str(row.token_id), digits[0]], widths, has_styles)
        for piece, digit in zip_longest(pieces[1:], digits[1:], fillvalue=""):
            yield _line(["", piece, "", digit], widths, has_styles)


def _widths(rows: Sequence[TokenRow], width: int) -> tuple[int, int, int, int]:
    """The widths of the columns: position, token, id and bytes."""
    position = max(len("position") if width >= _WIDE else 0, len(str(len(rows) - 1)))
    token_id = max((len(str(row.token_id)) for row in rows), default=len("id"))
    piece = max((cell_len(row.piece) for row in rows), default=0)
    digits = max((len(row.digits) for row in rows), default=0)
    room = width - position - token_id - 3 * len(_GAP)
    if piece + digits > room:
        piece = max(_LEAST_PIECE, min(piece, room // 2))
        digits = max(_LEAST_BYTES, min(digits, room - piece))
    return position, max(piece, len("token")), max(token_id, len("id")), max(digits, len("bytes"))


def _wrapped(digits: str, width: int) -> list[str]:
    step = max(1, (width + 1) // 3) * 3
    return [digits[start : start + step].rstrip() for start in range(0, len(digits), step)] or [""]


def _line(cells: Sequence[str], widths: Sequence[int], has_styles: bool = False) -> str:
    position, piece, token_id, digits = cells
    padding = " " * (widths[1] - cell_len(piece))
    padded = [position.rjust(widths[0]), piece + padding, token_id.rjust(widths[2]), digits]
    if has_styles:
        padded = [f"{style}{cell}{_PLAIN}" for style, cell in zip(_STYLES, padded, strict=True)]
    return _GAP.join(padded).rstrip()
