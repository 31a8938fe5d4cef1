"""The `pellucid` command and its subcommands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pellucid.cli.failures import PellucidCommand
from pellucid.cli.terminal import write

_DECODE, _MODELS = "Decode and inspect", "Models"

# The commands in the order of the help, with their panels. Command `x` is the function `x` of the module `cli.x`.
_PANELS = {
    "walk": _DECODE,
    "generate": _DECODE,
    "show": _DECODE,
    "predict": _DECODE,
    "score": _DECODE,
    "tokens": _DECODE,
    "trace": _DECODE,
    "models": _MODELS,
    "pull": _MODELS,
    "quantize": _MODELS,
    "bench": _MODELS,
    "verify": _MODELS,
}
_CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"]}


class _Commands(Mapping[str, Any]):
    """Lazy mapping of names to commands: a command is imported and built when it is looked up."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            panel = _PANELS[name]
            single = typer.Typer(add_completion=False, context_settings=_CONTEXT_SETTINGS)
            module = import_module(f"pellucid.cli.{name}")
            epilog = "\n\n".join(["Examples:", *module.EXAMPLES])  # rich keeps double line ends only
            single.command(name, cls=PellucidCommand, rich_help_panel=panel, epilog=epilog)(getattr(module, name))
            self._built[name] = typer.main.get_command(single)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_PANELS)

    def __len__(self) -> int:
        return len(_PANELS)


class _Group(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


app = typer.Typer(
    name="pellucid",
    cls=_Group,
    help="GPT-2, clear enough to see through.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT_SETTINGS,
)


def _version(asked: bool) -> None:
    if asked:
        from pellucid import __version__

        write(f"pellucid {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """GPT-2, clear enough to see through."""
