"""Every error Pellucid raises on purpose. Each message says what was wrong, where, and what to do."""

from __future__ import annotations


class PellucidError(Exception):
    """Base of all errors raised on purpose; catch it to catch them all."""


class ConfigError(PellucidError, ValueError):
    """A model configuration contradicts itself or describes something that GPT-2 is not."""


class CheckpointError(PellucidError):
    """Weights are missing, damaged, of the wrong shape, or in a form that cannot be read."""


class ModelNotFoundError(PellucidError, FileNotFoundError):
    """No model answers to a name: not bundled, not a folder or file, not on the Hub."""


class TokenizerError(PellucidError, ValueError):
    """A tokenizer is missing, cannot be read, or was asked for something it cannot do."""


class OptionError(PellucidError, ValueError):
    """A decoding option is unknown, out of range, or contradicts another one."""


class ContextLengthError(PellucidError, ValueError):
    """A sequence would run past the positions that the model has."""


class DecodingError(PellucidError, RuntimeError):
    """Decoding cannot go on: the model's logits are not finite, or the options leave no token to choose."""


class PicklingError(PellucidError, TypeError):
    """A model was to be sent to another process by pickling."""


class SessionError(PellucidError, RuntimeError):
    """A session is closed, or was changed by another thread while an operation ran."""


class RecordError(PellucidError, ValueError):
    """A record of a decode cannot be read, or cannot be replayed."""


class ActivationNameError(PellucidError, KeyError):
    """An activation name or pattern fits nothing: in the model, or in what a trace holds."""

    def __str__(self) -> str:  # KeyError's own shows the message in quotes
        return Exception.__str__(self)


class HookError(PellucidError, ValueError):
    """A hook is no function, or gave back something that cannot stand where the activation stood."""


class TraceError(PellucidError, ValueError):
    """A trace cannot be read from its file, or lacks what is asked of it."""


class TraceMemoryError(PellucidError, MemoryError):
    """A trace would take more memory than it may."""


class CacheFullError(PellucidError, MemoryError):
    """An engine's cache, whose size was settled when the model was loaded, has no room for more tokens."""


class MissingExtraError(PellucidError, ImportError):
    """A feature needs an optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f'{feature} needs the "{extra}" extra, which is not installed: pip install "pellucid[{extra}]"'
        )


class NoEngineError(PellucidError, ImportError):
    """There is no engine to run a model with."""

    def __init__(self, build_hint: str) -> None:
        super().__init__(
            "there is no engine to run a model with: the native one is not built and torch is not installed; "
            f'pip install "pellucid[torch]", or {build_hint}'
        )
