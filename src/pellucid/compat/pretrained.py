"""The configuration and the tokenizer with Transformers' `from_pretrained` and `save_pretrained`. No torch here."""

from __future__ import annotations

import dataclasses
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from pellucid import config, tokenizer
from pellucid.checkpoint import open_config, open_tokenizer
from pellucid.compat.hub_arguments import FROM_PRETRAINED, MODEL_ARGUMENTS
from pellucid.errors import ConfigError
from pellucid.keywords import check_keywords
from pellucid.tokenizer.settings import given_settings
from pellucid.whole_file import whole_file

# The fields that a model reads whenever it runs. The others are built into it.
_LIVE_FIELDS = ("bos_token_id", "eos_token_id", "pad_token_id", "use_cache")

# What a model's weights decide.
_WEIGHT_FIELDS = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "tie_word_embeddings")


class GPT2Config(config.GPT2Config):
    """`pellucid.config.GPT2Config` with fields that can be set, and with `from_pretrained` and `save_pretrained`.

    Setting raises `ConfigError` for an unknown name and, once a model is built with the configuration, for a field that
    is built into the model. Values are checked when a model is built, those of a model at once.
    """

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, revision: str | None = None, **fields: Any) -> Self:
        """Read a model's configuration by any name `pellucid.load` takes; its weights need not be there.

        fields: override those of the file.
        """
        given = check_keywords("from_pretrained", fields, _field_names(), FROM_PRETRAINED, ConfigError)
        return cls.of(open_config(name_or_path, revision=revision), **given)

    @classmethod
    def of(cls, other: config.GPT2Config, **changes: Any) -> Self:
        """Another configuration's fields, some of them changed."""
        return cls(**{name: getattr(other, name) for name in (*_field_names(), "extra")} | changes)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` into a folder, which is made where it is not there."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        with whole_file(Path(folder) / "config.json") as file:
            file.write(self.to_json().encode())

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _field_names():
            near = get_close_matches(name, _field_names(), n=1)
            hint = f"did you mean {near[0]}?" if near else "options of a call are arguments of that call"
            raise ConfigError(f"a GPT-2 configuration has no field {name}; {hint}")
        if self.__dict__.get("_in_use") and name not in _LIVE_FIELDS:
            raise ConfigError(
                f"{name} is built into the model and cannot be changed; build another model with "
                f"model.config.replace({name}={value!r})"
            )
        if self.__dict__.get("_in_use"):
            self.replace(**{name: value})  # raises for a value that no GPT-2 can have
        object.__setattr__(self, name, value)

    def used_by_model(self) -> Self:
        """Check this configuration, and make it the one of a model that is built."""
        self.replace()
        object.__setattr__(self, "_in_use", True)
        return self


def check_overrides(given: dict[str, Any]) -> dict[str, Any]:
    """Configuration fields among the arguments of a model's `from_pretrained`. Raises `ConfigError` for those that
    the weights decide, and for unknown names."""
    fields = check_keywords("from_pretrained", given, _field_names(), MODEL_ARGUMENTS, ConfigError)
    for name in fields:
        if name in _WEIGHT_FIELDS:
            raise ConfigError(f"{name} is decided by the weights; leave it out")
    return fields


def _field_names() -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(config.GPT2Config) if field.name != "extra")


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
