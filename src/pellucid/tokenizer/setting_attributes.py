"""The settings of a tokenizer as attributes, which may be set at any time."""

from __future__ import annotations

from pellucid.errors import TokenizerError
from pellucid.tokenizer.batch_encoding import Side, check_side
from pellucid.tokenizer.parts import TokenizerParts
from pellucid.tokenizer.settings import check_length
from pellucid.tokenizer.vocabulary import Vocabulary


class TokenizerWithSettings(Vocabulary):
    """A vocabulary with the settings for encoding and decoding; their names are those of `tokenizer_config.json`."""

    def __init__(self, parts: TokenizerParts) -> None:
        super().__init__(parts)
        self.model_max_length = parts.model_max_length
        self.padding_side = parts.padding_side
        self.truncation_side = parts.truncation_side

    # True, as in Transformers for tokenizers that the `tokenizers` library runs.
    is_fast = True

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

    @property
    def model_max_length(self) -> int:
        """The number of tokens that the model takes, 1e30 where it is not known. Truncation cuts to it by default."""
        return self._model_max_length

    @model_max_length.setter
    def model_max_length(self, length: int | None) -> None:
        self._model_max_length = check_length(length)

    @property
    def add_prefix_space(self) -> bool:
        """Whether a space is put before a text that begins with none."""
        return self._parts.add_prefix_space

    @property
    def add_bos_token(self) -> bool:
        """Whether the bos token is put before each text."""
        return self.bos_token is not None and self._around_text()[0] == self.bos_token

    @add_bos_token.setter
    def add_bos_token(self, add: bool) -> None:
        self._put_around_text(add, self.add_eos_token)

    @property
    def add_eos_token(self) -> bool:
        """Whether the eos token is put after each text."""
        return self.eos_token is not None and self._around_text()[1] == self.eos_token

    @add_eos_token.setter
    def add_eos_token(self, add: bool) -> None:
        self._put_around_text(self.add_bos_token, add)

    def _around_text(self) -> tuple[str | None, str | None]:
        from pellucid.tokenizer.post_processor import added_around_text

        return added_around_text(self.backend_tokenizer)

    def _put_around_text(self, add_bos: bool, add_eos: bool) -> None:
        from pellucid.tokenizer.post_processor import set_bos_and_eos

        for name, add in (("bos_token", add_bos), ("eos_token", add_eos)):
            if not isinstance(add, bool):
                raise TokenizerError(f"add_{name} is {add!r}; it must be True or False")
            if add and getattr(self, name) is None:
                raise TokenizerError(f"add_{name} needs a {name}, and this tokenizer has none: set tokenizer.{name}")
        set_bos_and_eos(
            self.backend_tokenizer, self.bos_token if add_bos else None, self.eos_token if add_eos else None
        )

    @property
    def split_special_tokens(self) -> bool:
        """Whether special tokens in a text are encoded as ordinary characters."""
        return self.backend_tokenizer.encode_special_tokens

    @split_special_tokens.setter
    def split_special_tokens(self, split: bool) -> None:
        if not isinstance(split, bool):
            raise TokenizerError(f"split_special_tokens is {split!r}; it must be True or False")
        self.backend_tokenizer.encode_special_tokens = split

    @property
    def model_input_names(self) -> list[str]:
        """What calling the tokenizer returns by default."""
        return list(self._parts.input_names)

    @property
    def clean_up_tokenization_spaces(self) -> bool:
        """False: decoding gives the text of the tokens."""
        return False

    @clean_up_tokenization_spaces.setter
    def clean_up_tokenization_spaces(self, clean_up: bool) -> None:
        if clean_up:
            raise TokenizerError("spaces are never cleaned up: decoding gives the text of the tokens")
