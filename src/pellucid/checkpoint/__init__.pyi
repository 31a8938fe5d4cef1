from pellucid.checkpoint.checkpoint import (
    Checkpoint as Checkpoint,
)
from pellucid.checkpoint.hub import (
    PRESET_IDS as PRESET_IDS,
    CachedModel as CachedModel,
    cached_files as cached_files,
    cached_models as cached_models,
    is_cached as is_cached,
)
from pellucid.checkpoint.hub_content import (
    discard as discard,
)
from pellucid.checkpoint.layout import (
    canonical_name as canonical_name,
    expected_shapes as expected_shapes,
)
from pellucid.checkpoint.opening import (
    BUNDLED_MODELS as BUNDLED_MODELS,
    open_checkpoint as open_checkpoint,
    open_config as open_config,
    open_tokenizer as open_tokenizer,
)
from pellucid.checkpoint.writing import (
    write_checkpoint as write_checkpoint,
    write_packed_checkpoint as write_packed_checkpoint,
)
