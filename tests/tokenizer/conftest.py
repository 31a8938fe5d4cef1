"""Fixtures: the bundled tokenizer, the same files in Transformers, and small trained vocabularies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

import pellucid
from pellucid.tokenizer import GPT2Tokenizer

ASSETS = Path(pellucid.__file__).parent / "assets" / "gpt2"

Train = Callable[..., tokenizers.Tokenizer]
MakeFolder = Callable[..., Path]


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with OpenAI's vocabulary under the file names of the Hub."""
    folder = tmp_path_factory.mktemp("gpt2")
    shutil.copy(ASSETS / "encoder.json", folder / "vocab.json")
    shutil.copy(ASSETS / "vocab.bpe", folder / "merges.txt")
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1024}')
    return folder


@pytest.fixture
def tokenizer() -> GPT2Tokenizer:
    """A new bundled tokenizer, which the test may change."""
    return GPT2Tokenizer.bundled()


@pytest.fixture(scope="session")
def bundled() -> GPT2Tokenizer:
    """A shared bundled tokenizer, which no test changes."""
    return GPT2Tokenizer.bundled()


@pytest.fixture(scope="session")
def theirs(gpt2_folder: Path) -> Any:
    """Transformers' tokenizer with the same files, shared, which no test changes."""
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(gpt2_folder)


@pytest.fixture(scope="session")
def train() -> Train:
    """Returns a function that trains a byte-level BPE of a few hundred tokens."""

    def build(special_tokens: tuple[str, ...] = ("<|endoftext|>",), add_prefix_space: bool = False) -> Any:
        small = tokenizers.Tokenizer(models.BPE())
        small.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
        small.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=330,
            special_tokens=list(special_tokens),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        small.train_from_iterator(["the quick brown fox doesn't jump over 123 naïve 日本語 🙂 dogs  \n\n"] * 9, trainer)
        return small

    return build


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Returns a function that writes a folder: JSON files, and `tokenizer.json` or a vocabulary and merges."""

    def build(
        small: tokenizers.Tokenizer | None = None, split: bool = False, **files: dict[str, Any] | list[Any]
    ) -> Path:
        folder = tmp_path / "checkpoint"
        folder.mkdir()
        if small is not None and split:
            small.model.save(str(folder))
        elif small is not None:
            small.save(str(folder / "tokenizer.json"))
        for name, content in {"config": {"model_type": "gpt2"}, **files}.items():
            (folder / f"{name}.json").write_text(json.dumps(content))
        return folder

    return build
