"""`Auto*`: the classes that find out from a checkpoint what to build. Here that is always a GPT-2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.checkpoint import open_config, open_tokenizer
from pellucid.config import GPT2Config
from pellucid.tokenizer import GPT2Tokenizer

if TYPE_CHECKING:
    from pellucid.compat.models import GPT2LMHeadModel, GPT2Model


class AutoConfig:
    """Reads a model's configuration; its weights need not be there."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, *, revision: str | None = None) -> GPT2Config:
        return open_config(name_or_path, revision=revision)


class AutoTokenizer:
    """Reads a model's tokenizer; its weights need not be there."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, *, revision: str | None = None, **settings: Any) -> GPT2Tokenizer:
        """settings: attributes to set on the tokenizer, such as `padding_side="left"` or `pad_token=...`."""
        tokenizer = open_tokenizer(name_or_path, revision=revision)
        for name, value in settings.items():
            if name != "use_fast":
                setattr(tokenizer, name, value)
        return tokenizer


class AutoModel:
    """Builds the model without its head."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **options: Any) -> GPT2Model:
        from pellucid.compat.models import GPT2Model

        return GPT2Model.from_pretrained(name_or_path, **options)


class AutoModelForCausalLM:
    """Builds the model with its language-modelling head."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **options: Any) -> GPT2LMHeadModel:
        from pellucid.compat.models import GPT2LMHeadModel

        return GPT2LMHeadModel.from_pretrained(name_or_path, **options)
