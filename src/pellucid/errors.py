"""The exceptions that Pellucid raises. Each message says what was wrong, where, and what to do."""

from __future__ import annotations


class PellucidError(Exception):
    """Base class of all exceptions that Pellucid raises."""


class ConfigError(PellucidError, ValueError):
    """A model configuration is inconsistent, or is not a GPT-2's."""


class CheckpointError(PellucidError):
    """Weights are missing, damaged, of the wrong shape, or in an unsupported format."""


class ModelNotFoundError(PellucidError, FileNotFoundError):
    """No model has this name: it is not bundled, not a folder or file, and not on the Hub."""


class TokenizerError(PellucidError, ValueError):
    """A tokenizer is missing, cannot be read, or does not support an operation."""


class OptionError(PellucidError, ValueError):
    """An argument or a decoding option is unknown, out of range, or contradicts another one."""


class ContextLengthError(PellucidError, ValueError):
    """A sequence would exceed the model's positions."""


class DecodingError(PellucidError, RuntimeError):
    """Decoding cannot go on: the model's logits are not finite, or the options leave no token to choose."""


class PicklingError(PellucidError, TypeError):
    """A model cannot be pickled."""


class SessionError(PellucidError, RuntimeError):
    """A session is closed, or was changed by another thread while an operation ran."""


class RecordError(PellucidError, ValueError):
    """A record of a decode cannot be read, or cannot be replayed."""


class ActivationNameError(PellucidError, KeyError):
    """An activation name or pattern matches nothing in the model or the trace."""

    def __str__(self) -> str:  # KeyError.__str__ would quote the message
        return Exception.__str__(self)


class HookError(PellucidError, ValueError):
    """A hook is not callable, or returned a value that cannot replace the activation."""


class TraceError(PellucidError, ValueError):
    """A trace cannot be read from its file, or lacks data that an operation needs."""


class TraceMemoryError(PellucidError, MemoryError):
    """A trace would exceed its memory limit."""


class CacheFullError(PellucidError, MemoryError):
    """An engine's key/value cache is full. Its capacity is fixed when the model is loaded."""


class MissingExtraError(PellucidError, ImportError):
    """A feature needs an optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f'{feature} needs the "{extra}" extra, which is not installed: pip install "pellucid[{extra}]"'
        )


class NoEngineError(PellucidError, ImportError):
    """Neither the native engine nor torch is installed."""

    def __init__(self, build_hint: str) -> None:
        super().__init__(
            "there is no engine to run a model: the native one is not built and torch is not installed; "
            f'pip install "pellucid[torch]", or {build_hint}'
        )
