from pellucid.decoding.processors.boundaries import (
    BeginSuppressTokens as BeginSuppressTokens,
    ExponentialDecayLengthPenalty as ExponentialDecayLengthPenalty,
    ForcedBosToken as ForcedBosToken,
    ForcedEosToken as ForcedEosToken,
    MinLength as MinLength,
    MinNewTokens as MinNewTokens,
    PrefixAllowedTokens as PrefixAllowedTokens,
    RemoveInvalidValues as RemoveInvalidValues,
    SuppressTokens as SuppressTokens,
)
from pellucid.decoding.processors.processor import (
    Processor as Processor,
    UserProcessor as UserProcessor,
)
from pellucid.decoding.processors.repetition import (
    BadWords as BadWords,
    FrequencyPenalty as FrequencyPenalty,
    NoRepeatNgram as NoRepeatNgram,
    PresencePenalty as PresencePenalty,
    RepetitionPenalty as RepetitionPenalty,
    SequenceBias as SequenceBias,
)
from pellucid.decoding.processors.warpers import (
    EpsilonCutoff as EpsilonCutoff,
    EtaCutoff as EtaCutoff,
    Filter as Filter,
    MinP as MinP,
    RenormalizeLogits as RenormalizeLogits,
    Temperature as Temperature,
    TemperedTopK as TemperedTopK,
    TopK as TopK,
    TopP as TopP,
    TypicalP as TypicalP,
    Warper as Warper,
)
