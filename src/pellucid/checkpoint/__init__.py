"""GPT-2 on disk: where weights are found, how each format is read and written, the names and shapes they have."""

from pellucid.checkpoint.checkpoint import Checkpoint
from pellucid.checkpoint.hub import PRESET_IDS, CachedModel, cached_models, is_cached
from pellucid.checkpoint.layout import canonical_name, expected_shapes
from pellucid.checkpoint.opening import BUNDLED_MODELS, open_checkpoint, open_config, open_tokenizer
from pellucid.checkpoint.writing import write_checkpoint, write_packed_checkpoint

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
