"""Pellucid runs GPT-2 and shows how it runs.

    import pellucid
    lm = pellucid.load("demo")
    lm.generate("long long ago, I was").text

Names are imported when they are first used: `import pellucid` itself imports neither numpy nor torch.
"""

from __future__ import annotations

# As in typing, which is not imported here: the `pellucid` command handles Ctrl-C from its first moments on.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pellucid.compat.auto import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
    from pellucid.compat.models import GPT2LMHeadModel, GPT2Model
    from pellucid.compat.pretrained import GPT2Config, GPT2Tokenizer
    from pellucid.compat.streamers import AsyncTextIteratorStreamer, TextIteratorStreamer, TextStreamer
    from pellucid.decoding.options import GenerationOptions
    from pellucid.decoding.results import Generation, Prediction, Score
    from pellucid.errors import PellucidError
    from pellucid.language_model import LanguageModel, load
    from pellucid.lens.trace import Trace

__version__ = "0.1.0"

# Each public name and the module it lives in.
_HOMES = {
    "AsyncTextIteratorStreamer": "compat.streamers",
    "AutoConfig": "compat.auto",
    "AutoModel": "compat.auto",
    "AutoModelForCausalLM": "compat.auto",
    "AutoTokenizer": "compat.auto",
    "GPT2Config": "compat.pretrained",
    "GPT2LMHeadModel": "compat.models",
    "GPT2Model": "compat.models",
    "GPT2Tokenizer": "compat.pretrained",
    "Generation": "decoding.results",
    "GenerationOptions": "decoding.options",
    "LanguageModel": "language_model",
    "PellucidError": "errors",
    "Prediction": "decoding.results",
    "Score": "decoding.results",
    "TextIteratorStreamer": "compat.streamers",
    "TextStreamer": "compat.streamers",
    "Trace": "lens.trace",
    "load": "language_model",
}

# The extras that they need.
_EXTRAS = {"GPT2LMHeadModel": "torch", "GPT2Model": "torch"}

__all__ = [
    "AsyncTextIteratorStreamer",
    "AutoConfig",
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoTokenizer",
    "GPT2Config",
    "GPT2LMHeadModel",
    "GPT2Model",
    "GPT2Tokenizer",
    "Generation",
    "GenerationOptions",
    "LanguageModel",
    "PellucidError",
    "Prediction",
    "Score",
    "TextIteratorStreamer",
    "TextStreamer",
    "Trace",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in _EXTRAS:
        from pellucid.extras import require

        require(_EXTRAS[name], f"pellucid.{name}")
    from pellucid.lazy_names import first_use

    return first_use(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
