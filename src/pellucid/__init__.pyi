from pellucid.compat.auto import (
    AutoConfig as AutoConfig,
    AutoModel as AutoModel,
    AutoModelForCausalLM as AutoModelForCausalLM,
    AutoTokenizer as AutoTokenizer,
)
from pellucid.compat.generation_config import (
    GenerationConfig as GenerationConfig,
)
from pellucid.compat.models import (
    GPT2LMHeadModel as GPT2LMHeadModel,
    GPT2Model as GPT2Model,
)
from pellucid.compat.pretrained import (
    GPT2Config as GPT2Config,
    GPT2Tokenizer as GPT2Tokenizer,
)
from pellucid.compat.seeding import (
    set_seed as set_seed,
)
from pellucid.compat.streamers import (
    AsyncTextIteratorStreamer as AsyncTextIteratorStreamer,
    TextIteratorStreamer as TextIteratorStreamer,
    TextStreamer as TextStreamer,
)
from pellucid.decoding.options import (
    GenerationOptions as GenerationOptions,
)
from pellucid.decoding.results import (
    Generation as Generation,
    Prediction as Prediction,
    Score as Score,
)
from pellucid.errors import (
    PellucidError as PellucidError,
)
from pellucid.language_model import (
    LanguageModel as LanguageModel,
    load as load,
)
from pellucid.lens.trace import (
    Trace as Trace,
)

__version__: str
