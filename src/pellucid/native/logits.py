"""Passes over the logits of a vocabulary: what numpy takes several for, the compiled kernels do in one."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from pellucid.native import ISA_VARIABLE, is_built

if TYPE_CHECKING:
    from pellucid.native._native import LogitsPasses


@cache
def logits_passes() -> LogitsPasses | None:
    """The kernels for this processor, or those that PELLUCID_ISA names; None where the extension is not built, or
    has none of that name."""
    if not is_built():
        return None
    from pellucid.native._native import LogitsPasses

    try:
        return LogitsPasses(os.environ.get(ISA_VARIABLE, ""))
    except ValueError:  # an engine that is asked for says what is wrong with the name
        return None
