"""`pellucid trace`: a forward pass step by step, with the activations of a prompt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli.distinct_files import check_distinct
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
from pellucid.cli.terminal import show, show_json, show_notice, stderr_console, waiting
from pellucid.cli.texts import TextFile, given_text, text_argument
from pellucid.cli.torch_import import import_torch
from pellucid.errors import ActivationNameError, OptionError, PellucidError, TraceMemoryError
from pellucid.whole_file import whole_file

if TYPE_CHECKING:
    from pellucid.language_model import LanguageModel
    from pellucid.lens.overview import Overview

_FILES_PANEL = "Output files"

# The most numbers of activations that --json prints, about 10 MB of text.
_MOST_NUMBERS = 1_000_000
_LOOKS_AT = 3  # positions per head in the JSON


EXAMPLES = (
    'pellucid trace "long long ago, I was" --layer 4',
    "pellucid trace -f prompt.txt --html report.html",
)


def trace(
    prompt: Annotated[str | None, text_argument("PROMPT", "The text to trace")] = None,
    file: TextFile = None,
    layer: Annotated[
        int | None, typer.Option("--layer", metavar="N", help="Show only this block, in detail; the first is 0.")
    ] = None,
    top: Annotated[
        int, typer.Option("--top", metavar="K", help="How many tokens of each distribution to keep and show.")
    ] = 5,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write a report with every view of the text to FILE, for a browser; it needs no network.",
            rich_help_panel=_FILES_PANEL,
        ),
    ] = None,
    safetensors: Annotated[
        Path | None,
        typer.Option(
            "--safetensors",
            metavar="FILE",
            help="Write activations to FILE: those of --names (default: all).",
            rich_help_panel=_FILES_PANEL,
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--names",
            metavar="PATTERN",
            help="The activations to write with --json and --safetensors: a name, a glob, or a name without its block, "
            "such as attn.pattern; may be repeated.",
            rich_help_panel=_FILES_PANEL,
            show_default=False,
        ),
    ] = None,
    memory_limit: Annotated[
        float, typer.Option("--memory-limit", metavar="GB", help="The most memory that activations may take.")
    ] = 4.0,
    model: Model = "demo",
    precision: PrecisionOption = None,
    engine: EngineOption = EngineName.auto,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Show a forward pass step by step, with the activations of the prompt; --html writes a report."""
    if names and safetensors is None and not json:
        raise OptionError("names selects activations for --json and --safetensors: give one of them too")
    if memory_limit <= 0:
        raise OptionError(f"memory_limit is {memory_limit:g}; it must be above 0")
    prompt = given_text(prompt, file)
    check_distinct({"--file": file, "--html": html, "--safetensors": safetensors})
    limit = int(memory_limit * 2**30)
    with ExitStack() as files, _memory_as_option():
        page, tensors = (
            None if path is None else files.enter_context(whole_file(path)) for path in (html, safetensors)
        )
        with waiting("loading torch"):
            import_torch()
        lm = load_model(model, precision, engine, device, threads)
        _check(lm, layer, names)
        activations = _json_activations(lm, prompt, names or [], limit) if json else {}
        seen = _overview(lm, prompt, top, limit)
        if page is not None:
            from pellucid.reports import report_page

            with waiting("writing the page"):
                content = report_page(lm, seen)
            page.write(content)
        if tensors is not None:
            with waiting("writing activations"):
                _trace(lm, prompt, names, limit).save(tensors.partial)
            tensors.complete()
    if json:
        show_json(_as_json(seen, layer, activations))
    else:
        _show(seen, layer)
    for path in (html, safetensors):
        if path is not None and sys.stderr.isatty():
            show_notice(f"wrote {path}, {path.expanduser().stat().st_size / 1e6:,.1f} MB")


@contextmanager
def _memory_as_option() -> Iterator[None]:
    """Name the option instead of the parameter in errors about memory."""
    try:
        yield
    except TraceMemoryError as error:
        raise TraceMemoryError(str(error).replace("memory_limit", "--memory-limit")) from error


def _check(lm: LanguageModel, layer: int | None, names: list[str] | None) -> None:
    """Raise `OptionError` if the model has no such layer or activations."""
    from pellucid.lens.names import activation_names, select

    count = lm.config.n_layer
    if layer is not None and not 0 <= layer < count:
        raise OptionError(f"layer is {layer}, but the model's are numbered 0 to {count - 1}")
    try:
        select(names or None, activation_names(count))
    except ActivationNameError as error:
        raise OptionError(f"names: {error}") from error


def _overview(lm: LanguageModel, prompt: str, top: int, limit: int) -> Overview:
    from pellucid.reports import traced_overview

    with _progress("tracing") as progress:
        return traced_overview(lm, prompt, top=top, memory_limit=limit, progress=progress)


def _trace(lm: LanguageModel, prompt: str, names: list[str] | None, limit: int) -> Any:
    return lm.trace(prompt, names=names or None, memory_limit=limit)


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar if stderr is a terminal. Yields the function that updates it, of the work done and the total."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr_console(), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(seen: Overview, layer: int | None) -> None:
    from pellucid.views.overview import block_view

    show(seen if layer is None else block_view(seen, layer))


def _json_activations(lm: LanguageModel, prompt: str, names: list[str], limit: int) -> dict[str, Any]:
    """The shapes and values of the selected activations, by name. Without names there are none."""
    if not names:
        return {}
    from pellucid.lens.names import activation_names, select, size_of

    chosen = select(names, activation_names(lm.config.n_layer))
    numbers = size_of(chosen, lm.config, max(1, len(lm.tokenizer.encode(prompt))))
    if numbers > _MOST_NUMBERS:
        raise PellucidError(
            f"--names selects {numbers:,} numbers, too many for JSON, which takes at most {_MOST_NUMBERS:,}: select "
            "fewer, or give --safetensors FILE"
        )
    with waiting("tracing"):
        found = _trace(lm, prompt, names, limit)
    return {name: {"shape": list(found[name].shape), "values": found[name].tolist()} for name in found}


def _as_json(seen: Overview, layer: int | None, activations: dict[str, Any]) -> dict[str, Any]:
    layers = range(seen.config.n_layer) if layer is None else (layer,)
    return {
        "model": seen.model,
        "text": seen.text,
        "ids": list(seen.ids),
        "tokens": seen.score.to_dict()["rows"],
        "embeddings": {"stream_norm": float(seen.residual.stream[0, -1]), "says": _says_json(seen, -1)},
        "layers": [_layer_json(seen, number) for number in layers],
        "prediction": seen.prediction.to_dict()["rows"],
        "activations": activations,
    }


def _layer_json(seen: Overview, layer: int) -> dict[str, Any]:
    from pellucid.views.walk_readings import looked_at_most

    residual = seen.residual
    heads = [
        {
            "head": head,
            "norm": float(seen.heads.norms[layer, head, -1]),
            "looks_at": [
                {"position": key, "token": seen.tokens[key], "id": seen.ids[key], "weight": weight}
                for key, weight in looked_at_most(seen, layer, head, _LOOKS_AT)
            ],
        }
        for head in range(seen.config.n_head)
    ]
    return {
        "layer": layer,
        "attention_norm": float(residual.attention[layer, -1]),
        "mlp_norm": float(residual.mlp[layer, -1]),
        "stream_norm": float(residual.stream[2 * layer + 2, -1]),
        "heads": heads,
        "says": _says_json(seen, layer),
    }


def _says_json(seen: Overview, layer: int) -> list[dict[str, Any]]:
    from pellucid.views.walk_readings import layer_says

    return [vars(row) for row in layer_says(seen, layer)]
