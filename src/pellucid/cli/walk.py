"""`pellucid walk`: the tokens of a prompt, the next-token distribution and continuations, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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
from pellucid.cli.terminal import printable, show, show_json, waiting
from pellucid.cli.texts import TextFile, given_text, text_argument
from pellucid.errors import OptionError

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from pellucid.decoding.results import Generation, Prediction
    from pellucid.language_model import LanguageModel

_TOP = 5
_NEW_TOKENS = 30


EXAMPLES = (
    'pellucid walk "long long ago, I was"',
    "pellucid walk -f prompt.txt -m gpt2 -n 20",
)


def walk(
    prompt: Annotated[str | None, text_argument("PROMPT", "The text to continue")] = None,
    file: TextFile = None,
    model: Model = "demo",
    precision: PrecisionOption = None,
    engine: EngineOption = EngineName.auto,
    device: Device = "cpu",
    threads: Threads = None,
    max_new_tokens: MaxNewTokens = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Show a prompt's tokens, its likeliest next tokens, and continuations by greedy decoding, beams and sampling."""
    prompt = given_text(prompt, file)
    lm = load_model(model, precision, engine, device, threads)
    strategies: dict[str, dict[str, Any]] = {
        "greedy": {},
        "beams": {"num_beams": 3},
        "sample": {"temperature": 0.8, "top_p": 0.95, "seed": 0 if seed is None else seed},
    }
    with waiting("decoding"):
        prediction = lm.predict(prompt, top=_TOP)
        length: dict[str, Any] = {
            "max_new_tokens": _new_tokens(max_new_tokens, lm.config.n_positions - len(prediction.prompt_ids) + 1)
        }
        continuations = {
            strategy: _one(lm.generate(prompt, **length, **options)) for strategy, options in strategies.items()
        }
    if json:
        show_json(
            {
                "model": lm.name,
                "prediction": prediction.to_dict(),
                **{
                    name: {"options": {**length, **strategies[name]}, **found.to_dict()}
                    for name, found in continuations.items()
                },
            }
        )
        return
    show(_page(lm, prediction, [(name, strategies[name], found) for name, found in continuations.items()]))


def _one(found: Generation | list[Generation]) -> Generation:
    assert not isinstance(found, list)  # one prompt, one sequence
    return found


def _new_tokens(asked: int | None, room: int) -> int:
    """The number of tokens to add: `asked`, or by default `_NEW_TOKENS`, cut to `room`."""
    if asked is not None and asked > room:
        raise OptionError(f"max_new_tokens is {asked}, but the model's positions have room for {room}")
    return min(_NEW_TOKENS, room) if asked is None else asked


def _page(
    lm: LanguageModel,
    prediction: Prediction,
    continuations: list[tuple[str, dict[str, Any], Generation]],
) -> Group:
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    from pellucid.views.walk_parts import heading, indented, model_title, next_token_bars, token_cells

    ids = prediction.prompt_ids
    parts: list[Any] = [Text(), model_title(lm.name, lm.config, lm.precision), Text()]
    parts += [heading("tokens", f"{len(ids)} of them, each with its id")]
    parts += [indented(token_cells([lm.tokenizer.display_token(token) for token in ids], ids)), Text()]
    parts += [heading("next token", f"the {len(prediction)} likeliest of {lm.config.vocab_size:,}")]
    parts += [indented(next_token_bars(prediction.rows)), Text()]
    for strategy, options, generation in continuations:
        arguments = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())
        parts += [heading(strategy, arguments or "the likeliest token, every time")]
        parts += [Padding(_continuation(prediction, generation), (0, 2, 0, 2), expand=False), Text()]
    return Group(*parts)


def _continuation(prediction: Prediction, generation: Generation) -> Text:
    """The prompt dim and the continuation bold, in one paragraph: line ends are shown as ↵."""
    from rich.text import Text

    def shown(text: str | None) -> str:
        return printable((text or "").replace("\n", "↵ "))

    return Text.assemble((shown(prediction.prompt), "dim"), (shown(generation.new_text), "bold"))
