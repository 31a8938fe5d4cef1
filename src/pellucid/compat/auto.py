"""Transformers' `Auto*` classes, which choose a class by the checkpoint. Here that is always a GPT-2's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid import config
from pellucid.compat.pretrained import GPT2Config, GPT2Tokenizer
from pellucid.extras import require

if TYPE_CHECKING:
    from pellucid.compat.models import GPT2LMHeadModel, GPT2Model


class AutoConfig:
    """Reads a model's configuration, without its weights."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **options: Any) -> GPT2Config:
        return GPT2Config.from_pretrained(name_or_path, **options)


class AutoTokenizer:
    """Reads a model's tokenizer, without its weights."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **options: Any) -> GPT2Tokenizer:
        return GPT2Tokenizer.from_pretrained(name_or_path, **options)


class AutoModel:
    """Loads the model without its head."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **options: Any) -> GPT2Model:
        require("torch", "AutoModel")
        from pellucid.compat.models import GPT2Model

        return GPT2Model.from_pretrained(name_or_path, **options)

    @staticmethod
    def from_config(config: config.GPT2Config) -> GPT2Model:
        """A model with random weights."""
        require("torch", "AutoModel")
        from pellucid.compat.models import GPT2Model

        return GPT2Model(config)


class AutoModelForCausalLM:
    """Loads the model with its language-modelling head."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **options: Any) -> GPT2LMHeadModel:
        require("torch", "AutoModelForCausalLM")
        from pellucid.compat.models import GPT2LMHeadModel

        return GPT2LMHeadModel.from_pretrained(name_or_path, **options)

    @staticmethod
    def from_config(config: config.GPT2Config) -> GPT2LMHeadModel:
        """A model with random weights."""
        require("torch", "AutoModelForCausalLM")
        from pellucid.compat.models import GPT2LMHeadModel

        return GPT2LMHeadModel(config)
