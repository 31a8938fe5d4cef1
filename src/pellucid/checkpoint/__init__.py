"""GPT-2 on disk: finding a model by name, reading and writing each format, the names and shapes of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.checkpoint.checkpoint import Checkpoint
from pellucid.checkpoint.layout import canonical_name, expected_shapes
from pellucid.checkpoint.opening import BUNDLED_MODELS, open_checkpoint, open_config, open_tokenizer
from pellucid.lazy_names import first_use

if TYPE_CHECKING:
    from pellucid.checkpoint.hub import PRESET_IDS, CachedModel, cached_models, is_cached
    from pellucid.checkpoint.writing import write_checkpoint, write_packed_checkpoint

# Names that opening a local model does not need, by their modules, which are imported at the first use.
_HOMES = {
    "PRESET_IDS": "hub",
    "CachedModel": "hub",
    "cached_models": "hub",
    "is_cached": "hub",
    "write_checkpoint": "writing",
    "write_packed_checkpoint": "writing",
}

__all__ = [
    "BUNDLED_MODELS",
    "PRESET_IDS",
    "CachedModel",
    "Checkpoint",
    "cached_models",
    "canonical_name",
    "expected_shapes",
    "is_cached",
    "open_checkpoint",
    "open_config",
    "open_tokenizer",
    "write_checkpoint",
    "write_packed_checkpoint",
]


def __getattr__(name: str) -> Any:
    return first_use(__name__, name, _HOMES)
