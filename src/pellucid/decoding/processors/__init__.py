"""What stands between a model's logits and the choice of a token, one small class an option.

A processor takes a sequence's tokens and its logits [vocab] and returns new logits, what is excluded at -inf;
inputs are never changed. The rules are those of Transformers 5.23, where they exist there.

A class is imported when it is first named: most calls ask for none or a few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.lazy_names import first_use

if TYPE_CHECKING:
    from pellucid.decoding.processors.boundaries import (
        BeginSuppressTokens,
        ExponentialDecayLengthPenalty,
        ForcedBosToken,
        ForcedEosToken,
        MinLength,
        MinNewTokens,
        PrefixAllowedTokens,
        RemoveInvalidValues,
        SuppressTokens,
    )
    from pellucid.decoding.processors.processor import Processor, UserProcessor
    from pellucid.decoding.processors.repetition import (
        BadWords,
        FrequencyPenalty,
        NoRepeatNgram,
        PresencePenalty,
        RepetitionPenalty,
        SequenceBias,
    )
    from pellucid.decoding.processors.warpers import (
        EpsilonCutoff,
        EtaCutoff,
        Filter,
        MinP,
        RenormalizeLogits,
        Temperature,
        TemperedTopK,
        TopK,
        TopP,
        TypicalP,
        Warper,
    )

# Each class and the module it lives in.
_HOMES = {
    "BadWords": "repetition",
    "BeginSuppressTokens": "boundaries",
    "EpsilonCutoff": "warpers",
    "EtaCutoff": "warpers",
    "ExponentialDecayLengthPenalty": "boundaries",
    "Filter": "warpers",
    "ForcedBosToken": "boundaries",
    "ForcedEosToken": "boundaries",
    "FrequencyPenalty": "repetition",
    "MinLength": "boundaries",
    "MinNewTokens": "boundaries",
    "MinP": "warpers",
    "NoRepeatNgram": "repetition",
    "PrefixAllowedTokens": "boundaries",
    "PresencePenalty": "repetition",
    "Processor": "processor",
    "RemoveInvalidValues": "boundaries",
    "RenormalizeLogits": "warpers",
    "RepetitionPenalty": "repetition",
    "SequenceBias": "repetition",
    "SuppressTokens": "boundaries",
    "Temperature": "warpers",
    "TemperedTopK": "warpers",
    "TopK": "warpers",
    "TopP": "warpers",
    "TypicalP": "warpers",
    "UserProcessor": "processor",
    "Warper": "warpers",
}

__all__ = [
    "BadWords",
    "BeginSuppressTokens",
    "EpsilonCutoff",
    "EtaCutoff",
    "ExponentialDecayLengthPenalty",
    "Filter",
    "ForcedBosToken",
    "ForcedEosToken",
    "FrequencyPenalty",
    "MinLength",
    "MinNewTokens",
    "MinP",
    "NoRepeatNgram",
    "PrefixAllowedTokens",
    "PresencePenalty",
    "Processor",
    "RemoveInvalidValues",
    "RenormalizeLogits",
    "RepetitionPenalty",
    "SequenceBias",
    "SuppressTokens",
    "Temperature",
    "TemperedTopK",
    "TopK",
    "TopP",
    "TypicalP",
    "UserProcessor",
    "Warper",
]


def __getattr__(name: str) -> Any:
    return first_use(__name__, name, _HOMES)
