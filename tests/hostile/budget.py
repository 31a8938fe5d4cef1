"""How much a run tries: little in the whole suite, more when it is asked for."""

from __future__ import annotations

import os

import hypothesis
from hypothesis import HealthCheck, Phase

# 1 is the part that belongs to the whole suite; `make hostile` takes more.
SCALE = int(os.environ.get("PELLUCID_HOSTILE_SCALE", "1"))


def examples(count: int, *, shrink: bool = True) -> hypothesis.settings:
    """Settings of a trial that draws `count` examples in the whole suite, and SCALE times as many otherwise.

    shrink: whether a failing example is made smaller, for which it is run many times.

    In the whole suite the examples are the same in every run. A longer run draws them from the seed that
    `--hypothesis-seed` gives, and keeps what fails in hypothesis's example database.
    """
    return hypothesis.settings(
        max_examples=count * SCALE,
        deadline=None,
        derandomize=SCALE == 1,
        phases=[phase for phase in Phase if shrink or phase not in (Phase.shrink, Phase.explain)],
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )
