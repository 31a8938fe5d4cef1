"""A tokenizer on disk: which files a folder may have, what they say, and how they are written.

Where several files speak about the same thing, the one that is heard is the one that Transformers (5.23) hears.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

from pellucid.errors import TokenizerError
from pellucid.json_object import read_json_object
from pellucid.tokenizer.building import (
    TOKEN_FLAGS,
    added_token,
    blaming,
    build_bpe,
    check_settings,
    extra_tokens,
    finish,
    gpt2_parts,
    merge_pairs,
    named_tokens,
    token_text,
    tokens_of,
)
from pellucid.tokenizer.parts import GPT2_SPECIAL_TOKENS, TokenizerParts
from pellucid.whole_file import temporary

# A tokenizer.json of 250,000 tokens takes 17 MB.
_MAX_BYTES = 1 << 25

# (vocabulary, merges): Transformers' names, then OpenAI's.
_VOCABULARY_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


def read_folder(folder: Path) -> TokenizerParts:
    """The tokenizer of a checkpoint folder. Raises `TokenizerError` naming the file that is missing or damaged."""
    if not folder.is_dir():
        raise TokenizerError(f"{folder} is not a folder; a tokenizer is read from the folder that holds its files")
    settings_file = folder / "tokenizer_config.json"
    settings = _read_if_there(settings_file)
    with blaming(settings_file):
        check_settings(settings)
    tokenizer_class = settings.get("tokenizer_class")
    if tokenizer_class is None:
        tokenizer_class = _read_if_there(folder / "config.json").get("tokenizer_class")
    document_file = folder / "tokenizer.json"
    document = _read_if_there(document_file)
    added = _read_added_tokens(folder, settings, document)
    if document_file.exists():
        with blaming(document_file):
            return _parts_from_document(document_file, document, settings, added, tokenizer_class)
    for vocabulary_name, merges_name in _VOCABULARY_FILES:
        if (folder / vocabulary_name).exists() and (folder / merges_name).exists():
            model = _read_bpe(folder / vocabulary_name, folder / merges_name)
            with blaming(settings_file):
                return gpt2_parts(model, settings, added)
    raise TokenizerError(
        f"{folder} has no tokenizer: it needs tokenizer.json, or vocab.json with merges.txt, "
        "or encoder.json with vocab.bpe"
    )


def _read_if_there(path: Path) -> dict[str, Any]:
    """The JSON object in a file; `{}` where there is none."""
    return read_json_object(path, TokenizerError, max_bytes=_MAX_BYTES) if path.exists() else {}


def _read_bpe(vocabulary_file: Path, merges_file: Path) -> BPE:
    vocab = read_json_object(vocabulary_file, TokenizerError, max_bytes=_MAX_BYTES)
    try:
        lines = merges_file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{merges_file} cannot be read: {error}") from error
    merges = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]
    return build_bpe(vocab, merges, vocabulary_file, merges_file)


def _parts_from_document(
    path: Path,
    document: Mapping[str, Any],
    settings: Mapping[str, Any],
    added: Mapping[int, AddedToken],
    tokenizer_class: str | None,
) -> TokenizerParts:
    """From a `tokenizer.json`.

    Under GPT-2's own class Transformers takes vocabulary, merges, added tokens and post-processor from the file and
    builds the rest of the pipeline itself (that is how `add_prefix_space` gets in); so does this. A pipeline that is
    not GPT-2's, or another class, is taken as the file has it.
    """
    # The file's post-processor decides whether bos and eos are added, whatever the settings say.
    settings = {name: value for name, value in settings.items() if name not in ("add_bos_token", "add_eos_token")}
    model = document.get("model")
    if not isinstance(model, dict):
        raise TokenizerError(f"{path} has no model: it is not a tokenizer.json, or a damaged one")
    is_bpe = model.get("type", "BPE") == "BPE" and "merges" in model
    if tokenizer_class not in (None, "GPT2Tokenizer", "GPT2TokenizerFast") or not (is_bpe and _is_byte_level(document)):
        if is_bpe:
            merge_pairs(model["vocab"], model["merges"], path, model.get("continuing_subword_prefix") or "")
        backend = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        return finish(backend, {**_baked_in(backend), **settings}, added, "PreTrainedTokenizerFast")
    # Without its vocabulary the file is parsed quickly, and gives the post-processor as an object.
    shell = {**document, "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
    frame = Tokenizer.from_str(json.dumps(shell))
    bpe = build_bpe(model["vocab"], model["merges"], path, path)
    baked_in = {name: value for name, value in _baked_in(frame).items() if name != "pad_token"}
    return gpt2_parts(bpe, {**baked_in, **settings}, added, frame.post_processor)


def _is_byte_level(document: Mapping[str, Any]) -> bool:
    stage = document.get("pre_tokenizer") or {}
    return any(step.get("type") == "ByteLevel" for step in stage.get("pretokenizers", [stage]))


def _baked_in(backend: Tokenizer) -> dict[str, Any]:
    """The settings in the padding and truncation that a `tokenizer.json` may carry."""
    settings: dict[str, Any] = {}
    if backend.padding is not None:
        settings |= {"pad_token": backend.padding["pad_token"], "padding_side": backend.padding["direction"]}
    if backend.truncation is not None:
        settings["truncation_side"] = backend.truncation["direction"]
    return settings


def _read_added_tokens(folder: Path, settings: dict[str, Any], document: Mapping[str, Any]) -> dict[int, AddedToken]:
    """The added tokens by id. Where `tokenizer_config.json` does not list them, the older files are heard, and the
    special tokens that they name go into `settings`."""
    with blaming(folder / "tokenizer_config.json"):
        if not settings.get("extra_special_tokens"):
            settings["extra_special_tokens"] = settings.pop("additional_special_tokens", None)
        if "added_tokens_decoder" in settings:
            return {int(index): added_token(token) for index, token in settings["added_tokens_decoder"].items()}
    added: dict[int, AddedToken] = {}
    with blaming(folder / "special_tokens_map.json"):
        _hear_special_tokens_map(settings, _read_if_there(folder / "special_tokens_map.json"))
    with blaming(folder / "added_tokens.json"):
        special = {token_text(token) for token in (*named_tokens(settings).values(), *extra_tokens(settings))}
        for text, token_id in _read_if_there(folder / "added_tokens.json").items():
            added[int(token_id)] = AddedToken(text, normalized=text not in special, special=text in special)
    with blaming(folder / "special_tokens_map.json"):
        # Heard this late, as in Transformers: `added_tokens.json` above does not take these for special.
        additional = tokens_of(settings.pop("additional_special_tokens", None))
        settings["extra_special_tokens"] = settings.get("extra_special_tokens") or additional
        check_settings(settings)
    with blaming(folder / "tokenizer.json"):
        for token in document.get("added_tokens") or ():
            added[token["id"]] = added_token(token)
    return added


def _hear_special_tokens_map(settings: dict[str, Any], special_tokens_map: Mapping[str, Any]) -> None:
    extra = extra_tokens(settings)
    for name, value in special_tokens_map.items():
        if name == "extra_special_tokens":
            settings[name] = [*extra, *(token for token in tokens_of(value) if token not in extra)]
        elif name == "additional_special_tokens" or isinstance(value, str | dict | None):
            settings[name] = value
    check_settings(settings)


def write_folder(folder: Path, parts: TokenizerParts) -> tuple[Path, ...]:
    """Write the files from which `read_folder` and Transformers build this tokenizer again; returns their paths.

    All are written before the first is put in place, so that a full disk leaves older files whole.
    """
    pipeline = parts.backend.library
    added_tokens = sorted(pipeline.get_added_tokens_decoder().items())
    special_tokens: dict[str, Any] = dict(parts.special_tokens)
    settings = {
        **parts.settings,
        # A name left out would get GPT-2's own token back.
        **dict.fromkeys(GPT2_SPECIAL_TOKENS, None),
        **parts.special_tokens,
        "tokenizer_class": parts.tokenizer_class,
        "model_max_length": parts.model_max_length,
        "padding_side": parts.padding_side,
        "truncation_side": parts.truncation_side,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            str(token_id): {name: getattr(token, name) for name in ("content", *TOKEN_FLAGS)}
            for token_id, token in added_tokens
        },
    }
    if parts.extra_special_tokens:
        settings["extra_special_tokens"] = list(parts.extra_special_tokens)
        special_tokens["additional_special_tokens"] = list(parts.extra_special_tokens)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary(folder, folder=True) as staging:
            pipeline.save(str(staging / "tokenizer.json"))
            if isinstance(pipeline.model, BPE):
                pipeline.model.save(str(staging))
            for name, content in (("tokenizer_config.json", settings), ("special_tokens_map.json", special_tokens)):
                text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
                (staging / name).write_text(text, encoding="utf-8")
            names = sorted(path.name for path in staging.iterdir())
            for name in names:
                os.replace(staging / name, folder / name)
    except Exception as error:  # the tokenizers library raises nothing more specific
        raise TokenizerError(f"the tokenizer could not be written to {folder}: {error}") from error
    return tuple(folder / name for name in names)
