"""The configuration and the tokenizer with Transformers' `from_pretrained` and `save_pretrained`. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from pellucid import config, tokenizer
from pellucid.checkpoint import open_config, open_tokenizer
from pellucid.compat.hub_arguments import FROM_PRETRAINED
from pellucid.tokenizer.settings import given_settings
from pellucid.whole_file import whole_file


@dataclass(frozen=True, eq=False, repr=False)
class GPT2Config(config.GPT2Config):
    """`pellucid.config.GPT2Config`, which can be read by a model's name and written to a folder."""

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, revision: str | None = None) -> Self:
        """Read a model's configuration by any name `pellucid.load` takes; its weights need not be there."""
        found = open_config(name_or_path, revision=revision)
        return cls(**{field.name: getattr(found, field.name) for field in fields(found)})

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` into a folder, which is made where it is not there."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        with whole_file(Path(folder) / "config.json") as file:
            file.write(self.to_json().encode())


class GPT2Tokenizer(tokenizer.GPT2Tokenizer):
    """`pellucid.tokenizer.GPT2Tokenizer`, which can be read by a model's name."""

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, revision: str | None = None, **settings: Any) -> Self:
        """Read a model's tokenizer by any name `pellucid.load` takes; its weights need not be there.

        settings: those of `TokenizerSettings`, which override those of the tokenizer's files. Raises `TokenizerError`
        for a setting that is unknown or not supported.
        """
        given = given_settings("from_pretrained", settings, others=FROM_PRETRAINED)
        return cls(open_tokenizer(name_or_path, revision=revision, **given)._parts)
