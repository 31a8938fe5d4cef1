"""Invalid options are one clear error before any work, in the facade and in `generate`; so are damaged logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pellucid import LanguageModel
from pellucid.checkpoint import open_checkpoint
from pellucid.decoding import decode
from pellucid.decoding.options import GenerationOptions
from pellucid.errors import DecodingError, OptionError
from pellucid.reference.engine import ReferenceEngine

from ..pairs import Pair
from .engines import ScriptedEngine

PROMPT = [5, 6, 7]
VOCAB = 50257
SAMPLE = {"do_sample": True}


def never(ids: list[int]) -> np.ndarray:
    raise AssertionError("the engine was asked for logits")


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    """The bundled model with an engine that must not be used."""
    return LanguageModel(open_checkpoint("demo"), ScriptedEngine(never, VOCAB), None)  # type: ignore[arg-type]


# Options that both the facade and `generate` refuse, and the part of the message that names the fault.
BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_new_tokens": 0}, "max_new_tokens is 0"),
    ({"max_new_tokens": -4}, "max_new_tokens is -4"),
    ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5"),
    ({"max_new_tokens": "9"}, "max_new_tokens is '9'"),
    ({"max_length": 0}, "max_length is 0"),
    ({"max_length": 3}, "max_length"),
    ({"max_length": "9"}, "max_length is '9'"),
    ({"min_new_tokens": -1}, "min_new_tokens is -1"),
    ({"min_new_tokens": "2"}, "min_new_tokens is '2'"),
    ({"min_length": -1}, "min_length is -1"),
    ({"min_length": "2"}, "min_length is '2'"),
    ({"max_time": 0}, "max_time is 0"),
    ({"max_time": -2.0}, "max_time is -2.0"),
    ({"max_time": float("nan")}, "max_time is nan"),
    ({"eos_token_id": "end"}, "eos_token_id"),
    ({"stop_strings": ""}, "stop_strings is ''"),
    ({"stop_strings": ["a", 3]}, "stop_strings is"),
    ({"include_stop_string": 1}, "include_stop_string is 1"),
    ({"do_sample": "yes"}, "do_sample is 'yes'"),
    ({**SAMPLE, "temperature": -1}, "temperature is -1"),
    ({**SAMPLE, "temperature": float("inf")}, "temperature is inf"),
    ({**SAMPLE, "temperature": "warm"}, "temperature is 'warm'"),
    ({**SAMPLE, "top_k": -1}, "top_k is -1"),
    ({**SAMPLE, "top_k": 0.5}, "top_k is 0.5"),
    ({**SAMPLE, "top_k": True}, "top_k is True"),
    ({**SAMPLE, "top_p": 0}, "top_p is 0"),
    ({**SAMPLE, "top_p": 1.5}, "top_p is 1.5"),
    ({**SAMPLE, "top_p": -0.1}, "top_p is -0.1"),
    ({**SAMPLE, "min_p": -0.1}, "min_p is -0.1"),
    ({**SAMPLE, "min_p": 1.1}, "min_p is 1.1"),
    ({**SAMPLE, "typical_p": 0}, "typical_p is 0"),
    ({**SAMPLE, "typical_p": 2}, "typical_p is 2"),
    ({**SAMPLE, "epsilon_cutoff": 1}, "epsilon_cutoff is 1"),
    ({**SAMPLE, "epsilon_cutoff": -0.5}, "epsilon_cutoff is -0.5"),
    ({**SAMPLE, "eta_cutoff": 1.0}, "eta_cutoff is 1.0"),
    ({**SAMPLE, "seed": -1}, "seed is -1"),
    ({**SAMPLE, "seed": [1, 2]}, "seed has 2 numbers for 1 prompts"),
    ({**SAMPLE, "seed": "x"}, "seed is 'x'"),
    ({"renormalize_logits": "no"}, "renormalize_logits is 'no'"),
    ({"remove_invalid_values": 1}, "remove_invalid_values is 1"),
    ({"repetition_penalty": 0}, "repetition_penalty is 0"),
    ({"repetition_penalty": -1.2}, "repetition_penalty is -1.2"),
    ({"frequency_penalty": float("inf")}, "frequency_penalty is inf"),
    ({"presence_penalty": "much"}, "presence_penalty is 'much'"),
    ({"no_repeat_ngram_size": -2}, "no_repeat_ngram_size is -2"),
    ({"no_repeat_ngram_size": 2.0}, "no_repeat_ngram_size is 2.0"),
    ({"sequence_bias": {}}, "sequence_bias is {}"),
    ({"sequence_bias": {(1,): "x"}}, "sequence_bias is"),
    ({"sequence_bias": {(): 1.0}}, "sequence_bias is"),
    ({"sequence_bias": [[5, 1.0]]}, "sequence_bias is"),
    ({"sequence_bias": {(-1,): 1.0}}, "sequence_bias is"),
    ({"sequence_bias": {(1, 60000): 1.0}}, "sequence_bias has id 60000"),
    ({"bad_words_ids": []}, r"bad_words_ids is \[\]"),
    ({"bad_words_ids": [[]]}, r"bad_words_ids is \[\[\]\]"),
    ({"bad_words_ids": [5]}, r"bad_words_ids is \[5\]"),
    ({"bad_words_ids": [[60000]]}, "bad_words_ids has id 60000"),
    ({"suppress_tokens": [-1]}, "suppress_tokens is"),
    ({"begin_suppress_tokens": "a"}, "begin_suppress_tokens is 'a'"),
    ({"forced_eos_token_id": 60000}, "forced_eos_token_id has id 60000"),
    ({"forced_eos_token_id": -1}, "forced_eos_token_id is -1"),
    ({"forced_eos_token_id": 9, "suppress_tokens": [9]}, "forced_eos_token_id .9. is in suppress_tokens"),
    ({"prefix_allowed_tokens_fn": [1, 2]}, "prefix_allowed_tokens_fn"),
    ({"exponential_decay_length_penalty": (1, 2, 3)}, "exponential_decay_length_penalty is"),
    ({"exponential_decay_length_penalty": (1, 0)}, "exponential_decay_length_penalty is"),
    ({"exponential_decay_length_penalty": (-1, 1.1)}, "exponential_decay_length_penalty is"),
    ({"logits_processor": ["sharpen"]}, "logits_processor"),
    ({"stopping_criteria": 3}, "stopping_criteria"),
    ({"num_beams": 0}, "num_beams is 0"),
    ({"num_beams": -1}, "num_beams is -1"),
    ({"num_beams": 2.0}, "num_beams is 2.0"),
    ({"num_beams": 2, "length_penalty": float("nan")}, "length_penalty is nan"),
    ({"num_beams": 2, "early_stopping": "soon"}, "early_stopping is 'soon'"),
    ({"num_beams": 2, "early_stopping": 1}, "early_stopping is 1"),
    ({"num_beams": 2, "num_return_sequences": 3}, r"num_return_sequences \(3\) is more than num_beams \(2\)"),
    ({"num_return_sequences": 0}, "num_return_sequences is 0"),
    ({"num_return_sequences": 2}, "greedy decoding has one result"),
    ({"num_beams": 4, "num_beam_groups": 3, "diversity_penalty": 1.0}, r"num_beam_groups \(3\) must divide"),
    ({"num_beams": 4, "num_beam_groups": 2}, "diversity_penalty above 0"),
    ({"num_beams": 4, "diversity_penalty": 1.0}, "num_beam_groups of at least 2"),
    ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, **SAMPLE}, "combined with sampling"),
    ({"num_beams": 2, "force_words_ids": []}, r"force_words_ids is \[\]"),
    ({"num_beams": 2, "force_words_ids": [[60000]]}, "force_words_ids has id 60000"),
    ({"force_words_ids": [[5]]}, "force_words_ids is for beam search"),
    ({"num_beams": 2, "force_words_ids": [[5]], **SAMPLE}, "combined with sampling"),
    ({"penalty_alpha": 1.5, "top_k": 4}, "penalty_alpha is 1.5"),
    ({"prompt_lookup_num_tokens": 0}, "prompt_lookup_num_tokens is 0"),
    ({"prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 0}, "max_matching_ngram_size is 0"),
    ({"prompt_lookup_num_tokens": 3, "num_beams": 2}, "combined with num_beams"),
    ({"num_assistant_tokens": 0}, "num_assistant_tokens is 0"),
    ({"context": "roll"}, "context is 'roll'"),
    ({"temprature": 1.0}, "temprature"),
]

# Contradictory options, of which Transformers ignores one.
FACADE_ONLY: list[tuple[dict[str, Any], str]] = [
    ({"do_sample": False, "top_k": 5}, "do_sample=False contradicts top_k=5"),
    ({"max_new_tokens": 5, "max_length": 20}, "give one of them"),
    ({"length_penalty": 2.0}, "length_penalty is for beam search"),
    ({"early_stopping": True}, "early_stopping is for beam search"),
    ({"num_beam_groups": 2}, "num_beam_groups is for beam search"),
    ({"min_new_tokens": 9, "max_new_tokens": 5}, r"min_new_tokens \(9\) is more than max_new_tokens \(5\)"),
    ({"penalty_alpha": 0.6}, "needs a top_k of at least 2"),
    ({"penalty_alpha": 0.6, "top_k": 4, "num_beams": 2}, "combined with num_beams"),
    ({"forced_bos_token_id": 60000}, "forced_bos_token_id has id 60000"),
    ({"forced_bos_token_id": 9, "suppress_tokens": 9}, "forced_bos_token_id .9. is in suppress_tokens"),
]


def named(case: tuple[dict[str, Any], str]) -> str:
    return str(case[0])


@pytest.mark.parametrize("case", [*BAD, *FACADE_ONLY], ids=named)
def test_the_facade_names_an_invalid_option_before_any_work(
    lm: LanguageModel, case: tuple[dict[str, Any], str]
) -> None:
    options, said = case
    with pytest.raises(OptionError, match=said):
        lm.generate(PROMPT, **options)
    assert lm.engine.steps == 0  # type: ignore[attr-defined]
    assert not lm.engine.slots  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", BAD, ids=named)
def test_generate_names_an_invalid_option_before_any_work(
    pair: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch, case: tuple[dict[str, Any], str]
) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the engine was asked for logits")

    monkeypatch.setattr(ReferenceEngine, "step", refuse)
    options, said = case
    with pytest.raises(OptionError, match=said):
        pair()[0].generate(torch.tensor([PROMPT]), tokenizer=None, **options)


def damaged(value: float, place: int, step: int) -> ScriptedEngine:
    """Logits in which, from a given step on, one entry is invalid."""

    def logits_after(ids: list[int]) -> np.ndarray:
        logits = np.linspace(0, 1, 12, dtype=np.float32)
        if len(ids) >= len(PROMPT) + step:
            logits[place] = value
        return logits

    return ScriptedEngine(logits_after, 12)


WAYS: list[dict[str, Any]] = [
    {},
    {"do_sample": True, "seed": 1},
    {"num_beams": 2},
    {"num_beams": 2, "do_sample": True, "seed": 1},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("step", [0, 2])
def test_damaged_logits_are_an_error_that_names_them(way: dict[str, Any], value: float, step: int) -> None:
    engine = damaged(value, place=4, step=step)
    with pytest.raises(DecodingError, match=f"not finite: {value} for id 4.*remove_invalid_values"):
        decode(engine, [PROMPT], GenerationOptions(max_new_tokens=4, **way))
    assert not engine.slots


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_damaged_logits_decode_with_remove_invalid_values(way: dict[str, Any], value: float) -> None:
    engine = damaged(value, place=4, step=1)
    options = GenerationOptions(max_new_tokens=4, remove_invalid_values=True, **way)
    (result,) = decode(engine, [PROMPT], options)
    assert len(result.new_ids) == 4
    if value == np.inf:
        assert result.new_ids[1:] == [4, 4, 4]
    elif value == -np.inf:
        assert 4 not in result.new_ids[1:]
