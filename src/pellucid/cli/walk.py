"""`pellucid walk`: from a prompt to its continuations, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli.decoding_options import MaxNewTokens, Seed
from pellucid.cli.loading import load_model
from pellucid.cli.options import (
    Device,
    EngineName,
    EngineOption,
    Json,
    Model,
    PrecisionOption,
    Threads,
)
from pellucid.cli.terminal import given_text, printable, show, show_json, waiting

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderResult
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    from pellucid.decoding.results import Generation, Prediction
    from pellucid.language_model import LanguageModel

_TOP = 5
_NEW_TOKENS = 30
_BAR_WIDTH = 32


def walk(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="Where to start; - reads it from stdin.")],
    model: Model = "demo",
    precision: PrecisionOption = None,
    engine: EngineOption = EngineName.auto,
    device: Device = "cpu",
    threads: Threads = None,
    max_new_tokens: MaxNewTokens = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Walk from a prompt to its continuations: tokens, likeliest next tokens, greedy, beams, a sample."""
    prompt = given_text(prompt)
    lm = load_model(model, precision, engine, device, threads)
    room: dict[str, Any] = {"max_new_tokens": _fitting(lm, prompt) if max_new_tokens is None else max_new_tokens}
    ways: dict[str, dict[str, Any]] = {
        "greedy": {},
        "beams": {"num_beams": 3},
        "sample": {"temperature": 0.8, "top_p": 0.95, "seed": 0 if seed is None else seed},
    }
    with waiting("decoding"):
        prediction = lm.predict(prompt, top=_TOP)
        continuations = {way: _one(lm.generate(prompt, **room, **options)) for way, options in ways.items()}
    if json:
        show_json(
            {
                "model": lm.name,
                "prediction": prediction.to_dict(),
                **{way: {"options": {**room, **ways[way]}, **found.to_dict()} for way, found in continuations.items()},
            }
        )
        return
    show(_page(lm, prediction, [(way, ways[way], found) for way, found in continuations.items()]))


def _one(found: Generation | list[Generation]) -> Generation:
    assert not isinstance(found, list)  # one prompt, one sequence
    return found


def _fitting(lm: LanguageModel, prompt: str) -> int:
    """How many tokens to add: a screenful, or what the positions have room for."""
    room = lm.config.n_positions - len(lm.tokenizer.encode(prompt)) + 1
    return max(1, min(_NEW_TOKENS, room))


def _page(
    lm: LanguageModel,
    prediction: Prediction,
    continuations: list[tuple[str, dict[str, Any], Generation]],
) -> Group:
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    from pellucid.views.tables import visible

    cells = [(visible(lm.tokenizer.display_token(token), token), str(token)) for token in prediction.prompt_ids]
    parts: list[Any] = [Text(), _title(lm), Text()]
    parts += [_heading("tokens", f"{len(prediction.prompt_ids)} of them, each with its id")]
    parts += [Padding(_Tokens(cells), (0, 0, 0, 2), expand=False), Text()]
    parts += [_heading("next token", f"the {len(prediction)} likeliest of {lm.config.vocab_size:,}")]
    parts += [Padding(_next_tokens(prediction), (0, 0, 0, 2), expand=False), Text()]
    for way, options, generation in continuations:
        spelt = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())
        parts += [_heading(way, spelt or "the likeliest token, every time")]
        parts += [Padding(_continuation(prediction, generation), (0, 2, 0, 2), expand=False), Text()]
    return Group(*parts)


def _title(lm: LanguageModel) -> Text:
    from rich.text import Text

    config = lm.config
    facts = (
        f"  {config.parameter_count / 1e6:,.1f}M parameters · {config.n_layer} layers · {config.n_head} heads · "
        f"width {config.n_embd} · {lm.precision}"
    )
    return Text.assemble((lm.name, "bold cyan"), (facts, "dim"))


def _heading(title: str, explanation: str) -> Text:
    from rich.text import Text

    return Text.assemble((title, "bold"), (f"  {explanation}", "dim"))


class _Tokens:
    """Pieces with their ids below them, as many to a line as fit."""

    def __init__(self, cells: list[tuple[str, str]]) -> None:
        self._cells = cells

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(1, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.cells import cell_len
        from rich.text import Text

        pieces, ids, used = Text(), Text(), 0
        for number, (piece, token) in enumerate(self._cells):
            width = max(cell_len(piece), cell_len(token))
            if used and used + width > options.max_width:
                yield from (pieces, ids)
                pieces, ids, used = Text(), Text(), 0
            pieces.append(piece + " " * (width - cell_len(piece)), "bold" if number % 2 else "bold cyan")
            ids.append(token.ljust(width), "dim")
            pieces.append("  ")
            ids.append("  ")
            used += width + 2
        yield from (pieces, ids)


def _next_tokens(prediction: Prediction) -> Table:
    from rich.table import Table
    from rich.text import Text

    from pellucid.views.tables import visible

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right", style="dim")
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    largest = max(row.probability for row in prediction)
    for row in prediction:
        bar = "█" * max(1, round(_BAR_WIDTH * row.probability / largest))
        piece = Text(visible(row.token, row.id))
        table.add_row(piece, str(row.id), f"{row.probability:.2%}", Text(bar, style="cyan"))
    return table


def _continuation(prediction: Prediction, generation: Generation) -> Text:
    """Prompt dim, continuation bright; line ends as a sign, so that a continuation stays one paragraph."""
    from rich.text import Text

    def shown(text: str | None) -> str:
        return printable((text or "").replace("\n", "↵ "))

    return Text.assemble((shown(prediction.prompt), "dim"), (shown(generation.new_text), "bold"))
