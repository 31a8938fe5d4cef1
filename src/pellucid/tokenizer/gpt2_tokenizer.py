"""Text to ids and back: GPT-2's byte-level BPE, with the calls that Transformers' tokenizers have.

The algorithm runs in the `tokenizers` library; `byte_pairs.py` has its short form. Source: "Language Models are
Unsupervised Multitask Learners" (Radford et al., 2019), section 2.2, and OpenAI's `encoder.py`.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from pellucid.errors import TokenizerError
from pellucid.tokenizer.batch_encoding import BatchEncoding, Side, TensorKind, check_side, pad_rows, to_tensor
from pellucid.tokenizer.bundled import bundled_parts
from pellucid.tokenizer.byte_pairs import END_OF_TEXT
from pellucid.tokenizer.parts import LARGEST_LENGTH_LIMIT, NO_LENGTH_LIMIT, TokenizerParts
from pellucid.tokenizer.vocabulary import ArrayLike, Vocabulary, as_ids, check_text

if TYPE_CHECKING:
    from tokenizers import Encoding

Padding = bool | Literal["longest", "max_length", "do_not_pad"]
Truncation = bool | Literal["longest_first", "only_first", "do_not_truncate"]


class GPT2Tokenizer(Vocabulary):
    """GPT-2's tokenizer; ids are those of Transformers 5.23 for the same files.

    Made by `bundled()`, `from_folder(...)` or `from_vocabulary(...)`. Special tokens, `padding_side`,
    `truncation_side` and `model_max_length` may be set at any time.
    """

    def __init__(self, parts: TokenizerParts) -> None:
        super().__init__(parts)
        self.model_max_length = parts.model_max_length
        self.padding_side = parts.padding_side
        self.truncation_side = parts.truncation_side

    @classmethod
    def bundled(cls) -> Self:
        """OpenAI's vocabulary of 50,257 tokens, which comes with the package."""
        return cls(bundled_parts())

    @classmethod
    def from_folder(cls, path: str | Path) -> Self:
        """Read a checkpoint's tokenizer: `tokenizer.json`, else `vocab.json` with `merges.txt`, else OpenAI's
        `encoder.json` with `vocab.bpe`; and the settings and special tokens in the files beside them.

        Raises `TokenizerError`, naming the file, when there is none or one is damaged.
        """
        from pellucid.tokenizer.files import read_folder

        return cls(read_folder(Path(path)))

    @classmethod
    def from_vocabulary(
        cls,
        vocab: Mapping[str, int],
        merges: Iterable[str | Sequence[str]],
        *,
        bos_token: str | None = END_OF_TEXT,
        eos_token: str | None = END_OF_TEXT,
        unk_token: str | None = END_OF_TEXT,
        pad_token: str | None = None,
        extra_special_tokens: Sequence[str] = (),
        add_bos_token: bool = False,
        add_prefix_space: bool = False,
        model_max_length: int = NO_LENGTH_LIMIT,
        where: str = "the vocabulary",
    ) -> Self:
        """From tokens in GPT-2's spelling of bytes and merges (`"a b"` or pairs), best first.

        Special tokens that the vocabulary lacks are added at its end. `where` names the source in error messages.
        """
        from pellucid.tokenizer.building import parts_from_vocabulary

        settings = {
            "bos_token": bos_token,
            "eos_token": eos_token,
            "unk_token": unk_token,
            "pad_token": pad_token,
            "extra_special_tokens": list(extra_special_tokens),
            "add_bos_token": add_bos_token,
            "add_prefix_space": add_prefix_space,
            "model_max_length": model_max_length,
        }
        return cls(parts_from_vocabulary(vocab, merges, settings, where))

    def save_pretrained(self, folder: str | Path) -> tuple[Path, ...]:
        """Write the files from which `from_folder` and Transformers read this tokenizer; returns their paths."""
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

    @property
    def padding_side(self) -> Side:
        """The side on which shorter rows are padded."""
        return self._padding_side

    @padding_side.setter
    def padding_side(self, side: Side) -> None:
        self._padding_side = check_side("padding_side", side)

    @property
    def truncation_side(self) -> Side:
        """The side on which longer rows are cut."""
        return self._truncation_side

    @truncation_side.setter
    def truncation_side(self, side: Side) -> None:
        self._truncation_side = check_side("truncation_side", side)

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
        padding: Padding = False,
        truncation: Truncation | None = None,
        max_length: int | None = None,
        return_tensors: TensorKind | None = None,
        return_attention_mask: bool = True,
        add_special_tokens: bool = True,
        padding_side: Side | None = None,
        pad_to_multiple_of: int | None = None,
    ) -> BatchEncoding:
        """Ids [batch, seq] and attention mask [batch, seq] of one text or of many; flat lists for one text without
        `return_tensors`.

        padding: True or "longest" to the longest row, "max_length" to `max_length` (else `model_max_length`).
        truncation: True cuts to `max_length` (else `model_max_length`) tokens on `truncation_side`. As in
            Transformers, `max_length` alone, without padding, truncates too.
        Raises `TokenizerError` for text that is not Unicode, padding without a pad token, or a ragged tensor.
        """
        if return_tensors not in (None, "np", "pt"):
            raise TokenizerError(f"return_tensors is {return_tensors!r}; it must be 'np', 'pt' or None")
        single = isinstance(text, str)
        if truncation is None:
            truncation = max_length is not None and padding is False
        limit = self._truncation_length(truncation, max_length)
        if not isinstance(text, Sequence) or isinstance(text, bytes):
            raise TokenizerError(f"the tokenizer takes a string or a list of strings, not a {type(text).__name__}")
        texts = [text] if isinstance(text, str) else list(text)
        rows = self._rows(texts, limit, add_special_tokens)
        masks = [[1] * len(row) for row in rows]
        length = self._padded_length(padding, rows, max_length, limit, pad_to_multiple_of)
        if length is not None:
            side = check_side("padding_side", self.padding_side if padding_side is None else padding_side)
            rows, masks = pad_rows(rows, length, self._pad_id(), side), pad_rows(masks, length, 0, side)
        out = BatchEncoding(input_ids=rows)
        if return_attention_mask:
            out["attention_mask"] = masks
        for name, value in out.items():
            if return_tensors is not None:
                out[name] = to_tensor(value, return_tensors)
            elif single:
                out[name] = value[0]
        return out

    @overload
    def encode(
        self,
        text: str,
        *,
        add_special_tokens: bool = True,
        truncation: Truncation | None = None,
        max_length: int | None = None,
        return_tensors: None = None,
    ) -> list[int]: ...
    @overload
    def encode(
        self,
        text: str,
        *,
        add_special_tokens: bool = True,
        truncation: Truncation | None = None,
        max_length: int | None = None,
        return_tensors: TensorKind,
    ) -> Any: ...
    def encode(
        self,
        text: str,
        *,
        add_special_tokens: bool = True,
        truncation: Truncation | None = None,
        max_length: int | None = None,
        return_tensors: TensorKind | None = None,
    ) -> Any:
        """The ids of one text: a list, or with `return_tensors` an array [1, seq]."""
        check_text(text, "what encode was given")
        return self(
            text,
            add_special_tokens=add_special_tokens,
            truncation=truncation,
            max_length=max_length,
            return_tensors=return_tensors,
        )["input_ids"]

    def tokenize(self, text: str, add_special_tokens: bool = False) -> list[str]:
        """The tokens of one text, in GPT-2's spelling of bytes (`"Ġ"` is a space)."""
        _check_texts([text])
        return self._encodings([text], None, add_special_tokens)[0].tokens

    def _rows(self, texts: list[str], limit: int | None, add_special_tokens: bool) -> list[list[int]]:
        """The ids of each text."""
        _check_texts(texts)
        plain = self._parts.backend.encode_plain(texts[0]) if len(texts) == 1 and limit is None else None
        if plain is not None:
            return [plain]
        return [encoding.ids for encoding in self._encodings(texts, limit, add_special_tokens)]

    def _encodings(self, texts: list[str], limit: int | None, add_special_tokens: bool) -> list[Encoding]:
        if limit is None:
            if len(texts) == 1:
                return [self.backend_tokenizer.encode(texts[0], add_special_tokens=add_special_tokens)]
            return self.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=add_special_tokens)
        # The library's own truncation is a setting of the shared pipeline, so one thread's would reach another's.
        room = limit - (self.backend_tokenizer.num_special_tokens_to_add(False) if add_special_tokens else 0)
        if room < 0:
            raise TokenizerError(f"max_length is {limit}, which leaves no room for the special tokens that are added")
        encodings = self.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        for encoding in encodings:
            if len(encoding) > room:
                encoding.truncate(room, direction=self.truncation_side)
        return [self.backend_tokenizer.post_process(e, add_special_tokens=add_special_tokens) for e in encodings]

    def _truncation_length(self, truncation: Truncation, max_length: int | None) -> int | None:
        if max_length is not None and max_length < 0:
            raise TokenizerError(f"max_length is {max_length}; it must be a number of tokens")
        if truncation is False or truncation == "do_not_truncate":
            return None
        if truncation not in (True, "longest_first", "only_first"):
            raise TokenizerError(f"truncation is {truncation!r}; it must be True, False or 'longest_first'")
        limit = self.model_max_length if max_length is None else max_length
        return limit if limit <= LARGEST_LENGTH_LIMIT else None

    def _padded_length(
        self,
        padding: Padding,
        rows: list[list[int]],
        max_length: int | None,
        limit: int | None,
        multiple: int | None,
    ) -> int | None:
        """The number of tokens to pad to; None where nothing is padded."""
        if padding is False or padding == "do_not_pad":
            return None
        if padding in (True, "longest"):
            if max_length is not None and limit is None:
                warnings.warn(
                    "max_length has no effect with padding=True; pass truncation=True or padding='max_length'",
                    stacklevel=3,
                )
            length = max(map(len, rows), default=0)
        elif padding == "max_length":
            length = self.model_max_length if max_length is None else max_length
            if length > LARGEST_LENGTH_LIMIT:
                raise TokenizerError("padding='max_length' needs max_length: this tokenizer has no model_max_length")
        else:
            raise TokenizerError(f"padding is {padding!r}; it must be True, False, 'longest' or 'max_length'")
        if multiple is None:
            return length
        if multiple < 1:
            raise TokenizerError(f"pad_to_multiple_of is {multiple}; it must be a number of tokens from 1")
        return -(-length // multiple) * multiple

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
    ) -> str: ...
    @overload
    def decode(
        self,
        token_ids: Sequence[Sequence[int]],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]: ...
    @overload
    def decode(
        self, token_ids: ArrayLike, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any: ...
    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> Any:
        """The text of one id, a sequence of ids or an array [seq]; for nested ids or an array [batch, seq] a list.

        Bytes that are no UTF-8 become U+FFFD; ids from `len(self)` on decode to nothing.
        `clean_up_tokenization_spaces` is accepted for compatibility and never applied: the text is the tokens' bytes.
        """
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
    ) -> list[str]:
        """The text of each sequence. A flat list is one sequence, as in Transformers 5."""
        ids = as_ids(sequences)
        texts: str | list[str] = self.decode(ids, skip_special_tokens) if ids != [] else []
        return [texts] if isinstance(texts, str) else texts


def _check_texts(texts: Sequence[object]) -> None:
    for index, text in enumerate(texts):
        check_text(text, f"text {index} of {len(texts)}" if len(texts) > 1 else "the text")
