"""A tokenizer on disk: the files of a folder, which settings win, and how a folder is written.

Where several files set the same thing, the one wins that wins in Transformers 5.23.
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
from pellucid.regular_file import open_regular
from pellucid.tokenizer.building import build_bpe, damage_in, finish, gpt2_parts, merge_pairs
from pellucid.tokenizer.document_limits import check_document
from pellucid.tokenizer.parts import GPT2_SPECIAL_TOKENS, TokenizerParts
from pellucid.tokenizer.post_processor import added_around_text
from pellucid.tokenizer.settings import (
    TOKEN_FLAGS,
    added_token,
    check_settings,
    extra_tokens,
    named_tokens,
    token_text,
)
from pellucid.whole_file import temporary

# A tokenizer.json of 250,000 tokens takes 17 MB.
_MAX_BYTES = 1 << 25

# (vocabulary, merges): Transformers' names, then OpenAI's.
_VOCABULARY_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))

_GPT2_CLASSES = (None, "GPT2Tokenizer", "GPT2TokenizerFast")


def read_folder(folder: Path, given: Mapping[str, Any]) -> TokenizerParts:
    """The tokenizer of a checkpoint folder.

    given: settings that override those of the files. Raises `TokenizerError` naming the file that is missing or
    damaged.
    """
    if not folder.is_dir():
        raise TokenizerError(f"{folder} is not a folder; a tokenizer is read from the folder that holds its files")
    settings_file, document_file = folder / "tokenizer_config.json", folder / "tokenizer.json"
    settings = _read_if_there(settings_file)
    with damage_in(settings_file):
        check_settings(settings)
    tokenizer_class = settings.get("tokenizer_class")
    if tokenizer_class is None:
        tokenizer_class = _read_if_there(folder / "config.json").get("tokenizer_class")
    document = _read_if_there(document_file)
    if document_file.exists():
        # Whether bos and eos are added is then said by the document's post-processor.
        settings = {name: value for name, value in settings.items() if name not in ("add_bos_token", "add_eos_token")}
    settings |= given
    added = _read_added_tokens(folder, settings, given, document)
    if document_file.exists():
        with damage_in(document_file):
            return _parts_from_document(document_file, document, settings, added, tokenizer_class, given)
    for vocabulary_name, merges_name in _VOCABULARY_FILES:
        if (folder / vocabulary_name).exists() and (folder / merges_name).exists():
            model = _read_bpe(folder / vocabulary_name, folder / merges_name)
            with damage_in(settings_file):
                return gpt2_parts(model, settings, added)
    raise TokenizerError(
        f"{folder} has no tokenizer: it needs tokenizer.json, or vocab.json with merges.txt, "
        "or encoder.json with vocab.bpe"
    )


def _read_if_there(path: Path) -> dict[str, Any]:
    """The JSON object in a file; `{}` where there is no file."""
    return read_json_object(path, TokenizerError, max_bytes=_MAX_BYTES) if path.exists() else {}


def _read_text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            encoded = file.read(_MAX_BYTES + 1)
        if len(encoded) > _MAX_BYTES:
            raise TokenizerError(f"{path} is larger than {_MAX_BYTES:,} bytes, the most that is read of such a file")
        return encoded.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path} cannot be read: {error}") from error


def _read_bpe(vocabulary_file: Path, merges_file: Path) -> BPE:
    vocab = read_json_object(vocabulary_file, TokenizerError, max_bytes=_MAX_BYTES)
    lines = _read_text(merges_file).split("\n")
    merges = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]
    return build_bpe(vocab, merges, vocabulary_file, merges_file)


def _parts_from_document(
    path: Path,
    document: Mapping[str, Any],
    settings: Mapping[str, Any],
    added: Mapping[int, AddedToken],
    tokenizer_class: str | None,
    given: Mapping[str, Any],
) -> TokenizerParts:
    """From a `tokenizer.json`.

    Under GPT-2's own class Transformers takes vocabulary, merges, added tokens and post-processor from the file and
    builds the rest of the pipeline from the settings, `add_prefix_space` among them. A pipeline of another kind, or
    of another class, it takes as it is in the file. So does this.
    """
    model = document.get("model")
    if not isinstance(model, dict):
        raise TokenizerError(f"{path} has no model: it is not a tokenizer.json, or a damaged one")
    check_document(document)
    is_bpe = model.get("type", "BPE") == "BPE" and "merges" in model
    if tokenizer_class not in _GPT2_CLASSES or not (is_bpe and _is_byte_level(document)):
        if "add_prefix_space" in given:
            raise TokenizerError(f"add_prefix_space cannot be set: {path} has a pipeline of its own")
        if is_bpe:
            merge_pairs(model["vocab"], model["merges"], path, model.get("continuing_subword_prefix") or "")
        pipeline = Tokenizer.from_str(_read_text(path))
        return finish(pipeline, {**_padding_settings(pipeline), **settings}, added, "PreTrainedTokenizerFast")
    # Without its vocabulary the document is parsed quickly. Only its post-processor and padding are used.
    shell = {**document, "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
    frame = Tokenizer.from_str(json.dumps(shell))
    bpe = build_bpe(model["vocab"], model["merges"], path, path)
    padding = {name: value for name, value in _padding_settings(frame).items() if name != "pad_token"}
    return gpt2_parts(bpe, {**padding, **settings}, added, frame.post_processor)


def _is_byte_level(document: Mapping[str, Any]) -> bool:
    stage = document.get("pre_tokenizer") or {}
    return any(step.get("type") == "ByteLevel" for step in stage.get("pretokenizers", [stage]))


def _padding_settings(pipeline: Tokenizer) -> dict[str, Any]:
    """The settings that a `tokenizer.json` keeps as padding and truncation."""
    settings: dict[str, Any] = {}
    if pipeline.padding is not None:
        settings |= {"pad_token": pipeline.padding["pad_token"], "padding_side": pipeline.padding["direction"]}
    if pipeline.truncation is not None:
        settings["truncation_side"] = pipeline.truncation["direction"]
    return settings


def _read_added_tokens(
    folder: Path, settings: dict[str, Any], given: Mapping[str, Any], document: Mapping[str, Any]
) -> dict[int, AddedToken]:
    """The added tokens by id. Where `tokenizer_config.json` does not list them they are read from the older files,
    and the special tokens that those name go into `settings`."""
    with damage_in(folder / "tokenizer_config.json"):
        if not settings.get("extra_special_tokens"):
            settings["extra_special_tokens"] = settings.pop("additional_special_tokens", None)
        if "added_tokens_decoder" in settings:
            return {int(index): added_token(token) for index, token in settings["added_tokens_decoder"].items()}
    added: dict[int, AddedToken] = {}
    with damage_in(folder / "special_tokens_map.json"):
        _merge_special_tokens_map(settings, given, _read_if_there(folder / "special_tokens_map.json"))
    with damage_in(folder / "added_tokens.json"):
        special = {token_text(token) for token in (*named_tokens(settings).values(), *extra_tokens(settings))}
        for text, token_id in _read_if_there(folder / "added_tokens.json").items():
            added[int(token_id)] = AddedToken(text, normalized=text not in special, special=text in special)
    with damage_in(folder / "special_tokens_map.json"):
        # Only here, as in Transformers: `added_tokens.json` above does not take these for special.
        additional = settings.pop("additional_special_tokens", None)
        settings["extra_special_tokens"] = settings.get("extra_special_tokens") or additional
        check_settings(settings)
    with damage_in(folder / "tokenizer.json"):
        for token in document.get("added_tokens") or ():
            added[token["id"]] = added_token(token)
    return added


def _merge_special_tokens_map(
    settings: dict[str, Any], given: Mapping[str, Any], special_tokens_map: Mapping[str, Any]
) -> None:
    """Its tokens override those of the settings, but not those that are given."""
    extra = extra_tokens(settings)
    for name, value in special_tokens_map.items():
        if given.get(name):
            continue
        if name == "extra_special_tokens" and isinstance(value, list):
            settings[name] = [*extra, *(token for token in value if token not in extra)]
        elif name.endswith("_special_tokens") or isinstance(value, str | dict | None):
            settings[name] = value
    check_settings(settings)


def write_folder(folder: Path, parts: TokenizerParts) -> tuple[Path, ...]:
    """Write the files from which `read_folder` and Transformers build this tokenizer again; returns their paths.

    All files are written before the first is renamed into place, so that a full disk leaves older files whole.
    """
    pipeline = parts.backend.library
    added_tokens = sorted(pipeline.get_added_tokens_decoder().items())
    special_tokens: dict[str, Any] = dict(parts.special_tokens)
    before, after = added_around_text(pipeline)
    settings = {
        "add_prefix_space": parts.add_prefix_space,
        "split_special_tokens": pipeline.encode_special_tokens,
        "add_bos_token": before is not None and before == parts.special_tokens.get("bos_token"),
        "add_eos_token": after is not None and after == parts.special_tokens.get("eos_token"),
        # Without an entry GPT-2's own token would be read back for the name.
        **dict.fromkeys(GPT2_SPECIAL_TOKENS, None),
        **parts.special_tokens,
        "tokenizer_class": parts.tokenizer_class,
        "model_max_length": parts.model_max_length,
        "padding_side": parts.padding_side,
        "truncation_side": parts.truncation_side,
        "model_input_names": list(parts.input_names),
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
