"""Loading a model for a command, with a spinner while it takes long."""

from __future__ import annotations

import os
import re
from contextlib import nullcontext
from typing import TYPE_CHECKING

from pellucid.cli.options import EngineName, Precision
from pellucid.cli.terminal import waiting
from pellucid.cli.torch_import import import_torch
from pellucid.errors import OptionError

if TYPE_CHECKING:
    from pellucid.language_model import LanguageModel


def load_model(
    model: str,
    precision: Precision | None = None,
    engine: EngineName = EngineName.auto,
    device: str = "cpu",
    threads: int | None = None,
) -> LanguageModel:
    """Load a model by `pellucid.load`, with a spinner, or for a download with the progress bars of the Hub's client."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise OptionError(f"device is {device!r}; it must be cpu, cuda or, for one of several GPUs, cuda:1")
    with waiting(f"loading {model}") if is_local(model) else nullcontext():
        from pellucid.engine_choice import choose_engine

        chosen = choose_engine(engine.value, "float32" if precision is None else precision.value, device)
        if chosen == "torch":
            import_torch()
        from pellucid.language_model import load

        return load(
            model,
            precision=None if precision is None else precision.value,
            engine=chosen,
            device=device,
            threads=threads,
        )


def is_local(model: str) -> bool:
    """Whether a model needs no download: it is bundled, a path, or in the Hub's cache."""
    from pellucid.checkpoint import BUNDLED_MODELS

    if model in BUNDLED_MODELS or os.path.exists(os.path.expanduser(model)):
        return True
    from pellucid.checkpoint import is_cached

    return is_cached(model)
