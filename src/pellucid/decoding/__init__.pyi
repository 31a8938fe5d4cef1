from pellucid.decoding.options import GenerationOptions as GenerationOptions
from pellucid.decoding.sequence import GeneratedSequence as GeneratedSequence
from pellucid.decoding.strategies import (
    decode as decode,
    finish as finish,
    start as start,
)
from pellucid.decoding.task import (
    DecodingTask as DecodingTask,
    prepare as prepare,
)
