"""What can be asked of a decode, and what cannot."""

from pellucid.decoding.options.generation_options import (
    DEFAULT_NEW_TOKENS,
    OPTION_NAMES,
    SAMPLING_OPTIONS,
    GenerationOptions,
)

__all__ = ["DEFAULT_NEW_TOKENS", "OPTION_NAMES", "SAMPLING_OPTIONS", "GenerationOptions"]
