"""What stands between a model's logits and the choice of a token, one small class an option.

A processor takes a sequence's tokens and its logits [vocab] and returns new logits, what is excluded at -inf;
inputs are never changed. The rules are those of Transformers 5.23, where they exist there.
"""

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
