"""Number of examples per trial: few in the whole suite, more in `make hostile`."""

from __future__ import annotations

import os

import hypothesis
from hypothesis import HealthCheck, Phase

# 1 in the whole suite; `make hostile` sets a larger factor.
SCALE = int(os.environ.get("PELLUCID_HOSTILE_SCALE", "1"))


def examples(count: int, *, shrink: bool = True) -> hypothesis.settings:
    """Hypothesis settings for `count` examples, times SCALE.

    shrink: minimize a failing example, which takes many runs.

    The whole suite uses the same examples in every run. A longer run draws them from the seed that
    `--hypothesis-seed` gives, and stores failing examples in hypothesis's database.
    """
    return hypothesis.settings(
        max_examples=count * SCALE,
        deadline=None,
        derandomize=SCALE == 1,
        phases=[phase for phase in Phase if shrink or phase not in (Phase.shrink, Phase.explain)],
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )
