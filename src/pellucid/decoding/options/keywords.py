"""The types of the options as callers give them, for type checkers: every option may be left out or None."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

Ids: TypeAlias = int | Sequence[int]
TokenSequences: TypeAlias = Sequence[Sequence[int]]
Functions: TypeAlias = Callable[..., Any] | Sequence[Callable[..., Any]]
Biases: TypeAlias = Mapping[tuple[int, ...], float] | Sequence[tuple[Sequence[int], float]]


class OneSequenceOptions(TypedDict, total=False):
    """All options but `num_return_sequences`."""

    max_new_tokens: int | None
    max_length: int | None
    min_new_tokens: int | None
    min_length: int | None
    max_time: float | None
    eos_token_id: Ids | None
    stop_strings: str | Sequence[str] | None
    include_stop_string: bool | None
    stopping_criteria: Functions | None
    context: Literal["error", "slide"] | None
    do_sample: bool | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    epsilon_cutoff: float | None
    eta_cutoff: float | None
    renormalize_logits: bool | None
    seed: int | Sequence[int] | None
    sequence_bias: Biases | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    no_repeat_ngram_size: int | None
    bad_words_ids: TokenSequences | None
    prefix_allowed_tokens_fn: Callable[..., Any] | None
    forced_bos_token_id: int | None
    forced_eos_token_id: Ids | None
    remove_invalid_values: bool | None
    exponential_decay_length_penalty: tuple[int, float] | None
    suppress_tokens: Ids | None
    begin_suppress_tokens: Ids | None
    logits_processor: Functions | None
    num_beams: int | None
    num_beam_groups: int | None
    diversity_penalty: float | None
    force_words_ids: Sequence[Sequence[int] | TokenSequences] | None
    length_penalty: float | None
    early_stopping: bool | Literal["never"] | None
    penalty_alpha: float | None
    prompt_lookup_num_tokens: int | None
    max_matching_ngram_size: int | None
    num_assistant_tokens: int | None


class DecodingOptions(OneSequenceOptions, total=False):
    """All options."""

    num_return_sequences: int | None
