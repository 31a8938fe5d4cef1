"""Options of any value give an `OptionError` before any work, or valid tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid import native
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.options.option import options_of

from .budget import examples
from .tally import Tally
from .worker import Worker, WorkerOf, judge

pytestmark = pytest.mark.hostile

_FUNCTIONS = {"stopping_criteria", "prefix_allowed_tokens_fn", "logits_processor"}
_LENGTHS = {"max_new_tokens": 4, "max_length": 8}

# Options are sent to the worker as JSON. Python's json accepts infinities and NaN, which the standard excludes.
_numbers = st.one_of(
    st.floats(0, 2),
    st.integers(0, 6),
    st.floats(),
    st.integers(),
    st.sampled_from([5e-324, 1e-300, 1e-45, 1e-38, 1e-7, 1e9, 1e38, 3.5e38, 1e300, -1e300, 10**400, 2**31, 2**63]),
)
_ids = st.integers(0, 329) | st.sampled_from([-1, 330, 2**31, 2**63])
_id_lists = st.lists(_ids, max_size=4)
_anything = st.one_of(
    _numbers,
    st.booleans(),
    st.none(),
    st.text(max_size=4),
    st.sampled_from(["never", "slide", "error", ""]),
    _id_lists,
    st.lists(_id_lists, max_size=3),
    st.lists(st.tuples(_id_lists, _numbers), max_size=3),
    st.tuples(_numbers, _numbers),
    st.lists(st.text(max_size=3), max_size=2),
)


def _likely(default: Any) -> st.SearchStrategy[Any]:
    """Values of roughly the right type, so that many are accepted."""
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, int):
        return st.integers(0, 6)
    return st.floats(0, 2) | _numbers if isinstance(default, float) else _anything


_values = {
    name: st.integers(0, 4).flatmap(lambda often, default=default: _likely(default) if often else _anything)
    for name, option, default in options_of(GenerationOptions)
    if not option.of_the_model and name not in _FUNCTIONS
}


@st.composite
def option_sets(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(_values)), max_size=5, unique=True))
    options = {name: draw(_values[name]) for name in names}
    if draw(st.booleans()):
        options.setdefault("do_sample", True)
        options.setdefault("seed", 1)
    if draw(st.integers(0, 2)) == 0:
        options.setdefault("num_beams", draw(st.integers(2, 4)))
    # A decode that is long because of its options is not a failure.
    if not set(_LENGTHS) & set(options):
        options["max_new_tokens"] = draw(st.integers(1, 4))
    return options


@pytest.fixture
def worker(worker_of: WorkerOf) -> Worker:
    return worker_of("options")


def test_options_are_refused_before_any_work_or_decode_legal_tokens(
    model: Path, worker: Worker, tally: Callable[[str], Tally]
) -> None:
    counted = tally("extreme options")

    @examples(60)
    @given(
        engine=st.sampled_from(["native"] * 3 + ["torch"] if native.is_built() else ["torch"]), options=option_sets()
    )
    def try_options(engine: str, options: dict[str, Any]) -> None:
        judge(counted, worker.call("decode", model=str(model), engine=engine, options=options))

    try_options()
