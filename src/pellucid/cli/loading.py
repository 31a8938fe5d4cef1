"""Loading a model for a command, with something to look at while it takes."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.cli.options import EngineName, Precision
from pellucid.cli.terminal import waiting
from pellucid.errors import OptionError

if TYPE_CHECKING:
    from pellucid.language_model import LanguageModel


def load_model(
    model: str,
    precision: Precision = Precision.float32,
    engine: EngineName = EngineName.auto,
    device: str = "cpu",
    threads: int | None = None,
) -> LanguageModel:
    """As `pellucid.load`; a download shows the Hub's own progress, anything else that takes long a spinner."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise OptionError(f"device is {device!r}; it must be cpu or cuda, or one of several as cuda:1")
    with waiting(f"loading {model}") if is_local(model) else nullcontext():
        from pellucid.language_model import load

        return load(model, precision=precision.value, engine=engine.value, device=device, threads=threads)


def is_local(model: str) -> bool:
    """Whether a model needs no download: bundled, a path, or in the Hub's cache."""
    from pellucid.checkpoint import BUNDLED_MODELS

    return model in BUNDLED_MODELS or Path(model).expanduser().exists() or cached_path(model) is not None


def cached_path(model: str) -> Path | None:
    """Where the Hub's cache holds a model; None where it does not."""
    from pellucid.checkpoint import PRESET_IDS, cached_models

    hub_id = PRESET_IDS.get(model, model)
    return next((cached.path for cached in cached_models() if cached.id == hub_id), None)
