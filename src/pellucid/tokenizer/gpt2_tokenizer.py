"""Text to ids and back: GPT-2's byte-level BPE, with the calls that Transformers' tokenizers have.

The algorithm runs in the `tokenizers` library; `byte_pairs.py` has it in its short form. Source: "Language Models are
Unsupervised Multitask Learners" (Radford et al., 2019), section 2.2, and OpenAI's `encoder.py`.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack, overload

from pellucid.errors import TokenizerError
from pellucid.keywords import Unsupported, check_keywords
from pellucid.tokenizer.arguments import ArrayLike, as_ids, check_text
from pellucid.tokenizer.batch_encoding import (
    LARGEST_LENGTH_LIMIT,
    BatchEncoding,
    Padding,
    Side,
    TensorKind,
    Truncation,
    check_side,
    pad_rows,
    padded_length,
    to_tensor,
    truncation_limit,
)
from pellucid.tokenizer.bundled import bundled_parts
from pellucid.tokenizer.setting_attributes import TokenizerWithSettings
from pellucid.tokenizer.settings import TokenizerSettings, given_settings


class EncodingOptions(TypedDict, total=False):
    """How texts are encoded.

    add_special_tokens: add bos and eos where the tokenizer is set to (`add_bos_token`, `add_eos_token`); the default.
    padding: True or "longest" pads to the longest row, "max_length" to `max_length`, else to `model_max_length`.
    truncation: True cuts to `max_length`, else to `model_max_length`, on `truncation_side`. As in Transformers,
        `max_length` alone, without padding, truncates too.
    padding_side: in place of the tokenizer's own. pad_to_multiple_of: pad to a multiple of this length.
    verbose: False gives no warnings.
    """

    add_special_tokens: bool
    padding: Padding
    truncation: Truncation | None
    max_length: int | None
    padding_side: Side | None
    pad_to_multiple_of: int | None
    verbose: bool


_ONE_TEXT = "encode one text; join the two yourself"
_CUT_YOURSELF = "encode the whole text and cut its ids into windows"
_UNSUPPORTED_IN_CALLS = {
    "text_pair": Unsupported((None,), _ONE_TEXT),
    "text_target": Unsupported((None,), "pass it as the text; for a GPT-2 the labels are the input ids"),
    "text_pair_target": Unsupported((None,), _ONE_TEXT),
    "stride": Unsupported((0,), _CUT_YOURSELF),
    "return_overflowing_tokens": Unsupported((False,), _CUT_YOURSELF),
    "is_split_into_words": Unsupported((False,), "join the words to one text"),
    "return_special_tokens_mask": Unsupported((False,), "compare the ids with all_special_ids"),
    "return_offsets_mapping": Unsupported((False,), "tokenizer.backend_tokenizer.encode(text).offsets has them"),
    "return_length": Unsupported((False,), "take the length of each row of ids"),
    "split_special_tokens": Unsupported((None,), "set tokenizer.split_special_tokens"),
}
_UNSUPPORTED_IN_DECODING = {"use_source_tokenizer": Unsupported((False, None), "there is only one vocabulary")}
_UNSUPPORTED_IN_SAVING = {
    "legacy_format": Unsupported((None, False), "both formats are written"),
    "filename_prefix": Unsupported((None,), "save into a folder of its own"),
    "push_to_hub": Unsupported((False,), "upload the folder with huggingface_hub"),
    "save_format": Unsupported((None, "hf"), "both formats are written"),
    "save_jinja_files": Unsupported((True, False), "GPT-2 has no chat format"),
}


class GPT2Tokenizer(TokenizerWithSettings):
    """GPT-2's tokenizer; ids are those of Transformers 5.23 for the same files.

    Made by `bundled()`, `from_folder(...)` or `from_vocabulary(...)`. Special tokens and the settings that are
    attributes here may be set at any time; `add_prefix_space` only where the tokenizer is made.
    """

    @classmethod
    def bundled(cls, **settings: Unpack[TokenizerSettings]) -> Self:
        """OpenAI's vocabulary of 50,257 tokens, which the package contains."""
        return cls(bundled_parts(given_settings("bundled", settings)))

    @classmethod
    def from_folder(cls, path: str | Path, **settings: Unpack[TokenizerSettings]) -> Self:
        """Read a checkpoint's tokenizer: `tokenizer.json`, else `vocab.json` with `merges.txt`, else OpenAI's
        `encoder.json` with `vocab.bpe`; and the settings and special tokens in the files beside them.

        settings: override those of the files. Raises `TokenizerError`, naming the file, where one is missing or
        damaged.
        """
        from pellucid.tokenizer.files import read_folder

        return cls(read_folder(Path(path), given_settings("from_folder", settings)))

    @classmethod
    def from_vocabulary(
        cls,
        vocab: Mapping[str, int],
        merges: Iterable[str | Sequence[str]],
        *,
        where: str = "the vocabulary",
        **settings: Unpack[TokenizerSettings],
    ) -> Self:
        """From tokens in GPT-2's spelling of bytes and merges (`"a b"` or pairs), best first.

        bos, eos and unk are `<|endoftext|>` by default. Special tokens that the vocabulary lacks are added at its end.
        where: the source to name in error messages.
        """
        from pellucid.tokenizer.building import parts_from_vocabulary

        return cls(parts_from_vocabulary(vocab, merges, given_settings("from_vocabulary", settings), where))

    def save_pretrained(self, folder: str | Path, **unsupported: Any) -> tuple[Path, ...]:
        """Write the files from which `from_folder` and Transformers read this tokenizer; returns their paths."""
        check_keywords("save_pretrained", unsupported, (), _UNSUPPORTED_IN_SAVING, TokenizerError)
        from pellucid.tokenizer.files import write_folder

        parts = dataclasses.replace(
            self._parts,
            special_tokens=self._special_tokens,
            extra_special_tokens=self._extra_special_tokens,
            model_max_length=self.model_max_length,
            padding_side=self.padding_side,
            truncation_side=self.truncation_side,
        )
        return write_folder(Path(folder), parts)

    def __repr__(self) -> str:
        limit = "" if self.model_max_length > LARGEST_LENGTH_LIMIT else f", model_max_length={self.model_max_length}"
        return (
            f"{type(self).__name__}({len(self)} tokens, special_tokens={self.special_tokens_map}{limit}, "
            f"padding_side={self.padding_side!r})"
        )

    # Text to ids

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        return_tensors: TensorKind | None = None,
        return_attention_mask: bool | None = None,
        return_token_type_ids: bool | None = None,
        **options: Unpack[EncodingOptions],
    ) -> BatchEncoding:
        """Ids [batch, seq] and attention mask [batch, seq] of one text or of many; flat lists for one text without
        `return_tensors`.

        return_attention_mask, return_token_type_ids: by default what `model_input_names` says.
        Raises `TokenizerError` for text that is not Unicode, padding without a pad token, a ragged tensor, and an
        option that is unknown or not supported.
        """
        given = check_keywords(
            "the tokenizer", options, EncodingOptions.__annotations__, _UNSUPPORTED_IN_CALLS, TokenizerError
        )
        if return_tensors not in (None, "np", "pt"):
            raise TokenizerError(f"return_tensors is {return_tensors!r}; it must be 'np', 'pt' or None")
        if not isinstance(text, Sequence) or isinstance(text, bytes):
            raise TokenizerError(f"the tokenizer takes a string or a list of strings, not a {type(text).__name__}")
        rows, masks = self._rows([text] if isinstance(text, str) else list(text), given)
        out = BatchEncoding(input_ids=rows)
        if self._returns("token_type_ids", return_token_type_ids):
            out["token_type_ids"] = [[0] * len(row) for row in rows]
        if self._returns("attention_mask", return_attention_mask):
            out["attention_mask"] = masks
        for name, value in out.items():
            if return_tensors is not None:
                out[name] = to_tensor(value, return_tensors)
            elif isinstance(text, str):
                out[name] = value[0]
        return out

    @overload
    def encode(self, text: str, *, return_tensors: None = None, **options: Unpack[EncodingOptions]) -> list[int]: ...
    @overload
    def encode(self, text: str, *, return_tensors: TensorKind, **options: Unpack[EncodingOptions]) -> Any: ...
    def encode(self, text: str, *, return_tensors: TensorKind | None = None, **options: Unpack[EncodingOptions]) -> Any:
        """The ids of one text: a list, or with `return_tensors` an array [1, seq]."""
        check_text(text, "what encode was given")
        return self(text, return_tensors=return_tensors, **options)["input_ids"]

    def tokenize(self, text: str, add_special_tokens: bool = False) -> list[str]:
        """The tokens of one text, in GPT-2's spelling of bytes (`"Ġ"` is a space)."""
        _check_texts([text])
        return self._parts.backend.encodings([text], add_special_tokens)[0].tokens

    def num_special_tokens_to_add(self) -> int:
        """The number of special tokens that encoding adds to a text."""
        return self.backend_tokenizer.num_special_tokens_to_add(False)

    def surely_exceeds(self, text: str, limit: int) -> bool:
        """Whether a text has more than `limit` ids for certain, told from its length at once: the longest token bounds
        how few there can be. False where only encoding can tell."""
        check_text(text, "the text")
        return self._parts.backend.surely_exceeds(text, limit)

    def _returns(self, name: str, asked: bool | None) -> bool:
        return name in self._parts.input_names if asked is None else asked

    def _rows(self, texts: list[str], options: Mapping[str, Any]) -> tuple[list[list[int]], list[list[int]]]:
        """The ids and the mask of each text, cut and padded."""
        padding, max_length = options.get("padding", False), options.get("max_length")
        truncation = options.get("truncation")
        if truncation is None and max_length is not None and padding is False:
            truncation = True
        limit = truncation_limit(truncation, max_length, self.model_max_length)
        _check_texts(texts)
        rows = self._ids(texts, limit, options.get("add_special_tokens", True))
        masks = [[1] * len(row) for row in rows]
        longest = max(map(len, rows), default=0)
        length = padded_length(padding, longest, max_length, self.model_max_length, options.get("pad_to_multiple_of"))
        if padding in (True, "longest") and max_length is not None and limit is None and options.get("verbose", True):
            warnings.warn(
                "max_length has no effect with padding=True; pass truncation=True or padding='max_length'",
                stacklevel=3,
            )
        if length is None:
            return rows, masks
        side = options.get("padding_side")
        side = self.padding_side if side is None else check_side("padding_side", side)
        return pad_rows(rows, length, self._pad_id(), side), pad_rows(masks, length, 0, side)

    def _ids(self, texts: list[str], limit: int | None, add_special_tokens: bool) -> list[list[int]]:
        backend = self._parts.backend
        if limit is None and len(texts) == 1:
            return [backend.encode(texts[0], add_special_tokens)]
        if limit is not None and add_special_tokens and limit < self.num_special_tokens_to_add():
            raise TokenizerError(f"max_length is {limit}, which leaves no room for the special tokens that are added")
        encodings = backend.encodings(texts, add_special_tokens, limit, self.truncation_side)
        return [encoding.ids for encoding in encodings]

    def _pad_id(self) -> int:
        if self.pad_token_id is None:
            raise TokenizerError(
                "padding needs a pad token, and this tokenizer has none: set one, "
                "for example tokenizer.pad_token = tokenizer.eos_token"
            )
        return self.pad_token_id

    # Ids to text

    @overload
    def decode(
        self,
        token_ids: int | Sequence[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **unsupported: Any,
    ) -> str: ...
    @overload
    def decode(
        self,
        token_ids: Sequence[Sequence[int]],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **unsupported: Any,
    ) -> list[str]: ...
    @overload
    def decode(
        self,
        token_ids: ArrayLike,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **unsupported: Any,
    ) -> Any: ...
    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **unsupported: Any,
    ) -> Any:
        """The text of one id, a sequence of ids or an array [seq]; for nested ids or an array [batch, seq] a list.

        Bytes that are not UTF-8 become U+FFFD; ids from `len(self)` on decode to nothing. Spaces are never cleaned up:
        `clean_up_tokenization_spaces=True` warns that it has no effect, as in Transformers.
        """
        check_keywords("decode", unsupported, _DECODING, _UNSUPPORTED_IN_DECODING, TokenizerError)
        if clean_up_tokenization_spaces:
            warnings.warn("clean_up_tokenization_spaces=True has no effect on byte-level BPE", stacklevel=2)
        ids = as_ids(token_ids)
        if isinstance(ids, int):
            ids = [ids]
        if ids and isinstance(ids[0], list):
            return [self._parts.backend.decode(row, skip_special_tokens) for row in ids]
        return self._parts.backend.decode(ids, skip_special_tokens)

    def batch_decode(
        self,
        sequences: Sequence[Sequence[int]] | Sequence[int] | ArrayLike,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **unsupported: Any,
    ) -> list[str]:
        """The text of each sequence. A flat list is one sequence, as in Transformers 5."""
        ids = as_ids(sequences)
        if ids == []:
            return []
        texts: str | list[str] = self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces, **unsupported)
        return [texts] if isinstance(texts, str) else texts


_DECODING = ("skip_special_tokens", "clean_up_tokenization_spaces")


def _check_texts(texts: Sequence[object]) -> None:
    for index, text in enumerate(texts):
        check_text(text, f"text {index} of {len(texts)}" if len(texts) > 1 else "the text")
