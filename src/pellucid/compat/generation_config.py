"""Stored options of `generate`, with the names of generation_config.json as attributes. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pellucid.compat.generation_arguments import ARGUMENT_NAMES, BOOKKEEPING
from pellucid.errors import OptionError


class GenerationConfig(dict[str, Any]):
    """Options that `generate` takes where a call does not give them: `config.max_new_tokens = 5`.

    A dict whose values are attributes too. An option that is not set is None; Transformers' default then counts.
    Raises `OptionError` for a name that `generate` does not know.
    """

    def __init__(self, stored: Mapping[str, Any] | None = None, /, **options: Any) -> None:
        super().__init__(stored or {})  # a file's, which generate checks
        for name, value in options.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in ARGUMENT_NAMES:
            return None
        raise AttributeError(f"generate has no option {name!r}{_near(name)}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ARGUMENT_NAMES and name not in BOOKKEEPING:
            raise OptionError(f"generate has no option {name}{_near(name)}")
        self[name] = value

    def to_dict(self) -> dict[str, Any]:
        """The options that are set."""
        return dict(self)


def _near(name: str) -> str:
    near = get_close_matches(name, ARGUMENT_NAMES, n=1)
    return f"; did you mean {near[0]}?" if near else ""
