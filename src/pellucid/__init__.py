"""Pellucid runs GPT-2 and shows how it runs.

    import pellucid
    lm = pellucid.load("demo")
    lm.generate("long long ago, I was").text

Names are imported when they are first used: `import pellucid` itself imports neither numpy nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Each public name, the module it lives in, and the extra that module needs.
_HOMES: dict[str, tuple[str, str | None]] = {
    "AsyncTextIteratorStreamer": ("compat.streamers", None),
    "AutoConfig": ("compat.auto", None),
    "AutoModel": ("compat.auto", None),
    "AutoModelForCausalLM": ("compat.auto", None),
    "AutoTokenizer": ("compat.auto", None),
    "GPT2Config": ("compat.pretrained", None),
    "GPT2LMHeadModel": ("compat.models", "torch"),
    "GPT2Model": ("compat.models", "torch"),
    "GPT2Tokenizer": ("compat.pretrained", None),
    "Generation": ("decoding.results", None),
    "GenerationOptions": ("decoding.options", None),
    "LanguageModel": ("language_model", None),
    "PellucidError": ("errors", None),
    "Prediction": ("decoding.results", None),
    "Score": ("decoding.results", None),
    "TextIteratorStreamer": ("compat.streamers", None),
    "TextStreamer": ("compat.streamers", None),
    "Trace": ("lens.trace", None),
    "load": ("language_model", None),
}

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
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _HOMES[name]
    if extra is not None:
        from pellucid.extras import require

        require(extra, f"pellucid.{name}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
