"""The JSON of a record reads back to an equal record and matches its JSON Schema. Errors name the damaged place."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pellucid.views  # noqa: F401  (registers the renderers)
from pellucid.decoding import finish, prepare, start
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.records.record import Record
from pellucid.decoding.records.recording import Recorder
from pellucid.decoding.records.values import ContrastiveCandidate, Distribution, Expansion, Hypothesis, TokenStep
from pellucid.decoding.result_building import generations, stream_record
from pellucid.errors import RecordError
from pellucid.reference.engine import ReferenceEngine

from ..pairs import Pair
from .engines import ScriptedEngine

SCHEMA = json.loads((files("pellucid") / "assets" / "record.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "processed greedy": {"repetition_penalty": 1.3, "bad_words_ids": [[3], [4, 5]], "sequence_bias": [[[9], -1e9]]},
    "sample": {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "seed": 3, "num_return_sequences": 2},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "beams with processors": {"num_beams": 3, "no_repeat_ngram_size": 2, "length_penalty": 0.3},
    "beam sample": {"num_beams": 3, "do_sample": True, "top_k": 9, "seed": 1},
    "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    "forced words": {"num_beams": 3, "force_words_ids": [[[7, 8]], [[9], [10]]]},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "prompt lookup": {"prompt_lookup_num_tokens": 3},
    "slide": {"context": "slide", "max_new_tokens": 30},
}


@pytest.fixture(scope="module")
def engine(pair: Callable[..., Pair]) -> ReferenceEngine:
    return ReferenceEngine(pair(n_positions=24)[0])


def text_of(token: int) -> str:
    """Some tokens are byte fragments; some contain terminal or HTML control sequences."""
    return ("<b>&", "\\xe6", "\x1b[31m", "\n", '"')[token] if token < 5 else f" w{token}"


def recorded(engine: ReferenceEngine, options: dict[str, Any], *, full: bool = False) -> list[Record]:
    settled = GenerationOptions.from_kwargs({"max_new_tokens": 8, **options}, eos_token_id=(0,))
    task = prepare(engine, [[5, 6, 7, 5, 6]], settled, recorder=Recorder(full=full))
    found = generations(task, finish(start(task)), None, "small")
    return [generation.record.with_texts(text_of) for generation in found if generation.record is not None]


@pytest.fixture(scope="module")
def records(engine: ReferenceEngine) -> dict[str, Record]:
    return {way: recorded(engine, options)[-1] for way, options in WAYS.items()}


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_record_reads_back_equal_and_keeps_to_the_schema(engine: ReferenceEngine, way: str, full: bool) -> None:
    for record in recorded(engine, WAYS[way], full=full):
        text = record.to_json()
        assert Record.from_json(text) == record
        assert "\n" not in text
        VALIDATOR.validate(json.loads(text))
        assert json.loads(text) == record.to_dict()


def test_a_speculative_record_keeps_its_counts(engine: ReferenceEngine, records: dict[str, Record]) -> None:
    settled = GenerationOptions.from_kwargs({"max_new_tokens": 8, "do_sample": True, "seed": 1})
    task = prepare(engine, [[5, 6, 7]], settled, recorder=Recorder(), assistant=engine)
    record = generations(task, finish(start(task)), None, "small")[0].record
    assert record is not None
    assert Record.from_json(record.to_json()) == record
    assert record.accepted == record.drafted > 0  # the model is its own assistant
    VALIDATOR.validate(record.to_dict())


def test_unfinished_records_of_a_stream_read_back_too(engine: ReferenceEngine) -> None:
    for options in ({}, {"num_beams": 3}):
        settled = GenerationOptions.from_kwargs({"max_new_tokens": 5, **options}, eos_token_id=(0,))
        for record in stream_record(prepare(engine, [[5, 6]], settled, recorder=Recorder()), None, None):
            assert Record.from_json(record.to_json()) == record
            VALIDATOR.validate(record.to_dict())


def test_fields_of_later_versions_are_ignored(records: dict[str, Record]) -> None:
    for record in records.values():
        plain = record.to_dict()
        for place in [plain, *plain["steps"], *plain["tree"]]:
            place["from_later"] = [1]
        VALIDATOR.validate(plain)
        assert Record.from_json(json.dumps(plain)) == record


def test_the_schema_and_the_documentation_have_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs" / "records.md").read_text(encoding="utf-8")
    parts = {
        Record: SCHEMA,
        TokenStep: SCHEMA["$defs"]["step"],
        Hypothesis: SCHEMA["$defs"]["hypothesis"],
        Distribution: SCHEMA["$defs"]["distribution"],
        Expansion: SCHEMA["$defs"]["expansion"],
        ContrastiveCandidate: SCHEMA["$defs"]["contrastive_candidate"],
    }
    for kind, schema in parts.items():
        names = {field.name for field in dataclasses.fields(kind)}
        assert set(schema["properties"]) - {"schema"} == names
        assert all(f"`{name}`" in page for name in names)


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all values within a JSON value, without the options, which may be any values."""
    keys: Any = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        if way or key != "options":
            yield (*way, key)
            yield from places(value[key], (*way, key))


WRONG = st.sampled_from(
    [None, "?", "", -1, 1.5, 10**400, True, [], {}, [[]], float("nan"), float("inf"), 10**6, "\ud800"]
)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_damaged_record_is_an_error_that_names_the_place_or_is_still_a_record(
    data: st.DataObject, records: dict[str, Record]
) -> None:
    plain = copy.deepcopy(records[data.draw(st.sampled_from(sorted(records)))].to_dict())
    *way, last = data.draw(st.sampled_from(list(places(plain))))
    holder = plain
    for key in way:
        holder = holder[key]
    before = holder[last]
    if data.draw(st.booleans()):
        holder[last] = data.draw(WRONG)
    else:
        del holder[last]
    try:
        record = Record.from_json(json.dumps(plain))
    except RecordError as error:
        assert "record" in str(error)
        if "is not JSON" in str(error):
            return
        if "schema" not in way and last != "schema" and isinstance(before, (str, int, float)) and len(way) > 1:
            assert str(way[0]) in str(error) or "result" in str(error) or "hypothesis" in str(error)
        return
    VALIDATOR.validate(json.loads(json.dumps(plain)))
    assert Record.from_json(record.to_json()) == record
    assert "�" not in (record._repr_html_() or "")


@pytest.mark.parametrize(
    ("way", "change", "message"),
    [
        ("greedy", ("schema", "pellucid.record/2"), "schema is 'pellucid.record/2'; this version reads"),
        ("greedy", ("strategy", "guessing"), "strategy is 'guessing'; it must be one of greedy, sample"),
        ("greedy", ("steps", 3, "rank", -1), "steps[3].rank is -1; it must be a whole number of at least 0"),
        ("greedy", ("steps", 3, "step", 4), "steps[3].step is 4; it must be 3, its place"),
        ("sample", ("steps", 0, "probability", 1.5), "steps[0].probability is 1.5; it must be a number from 0 to 1"),
        ("sample", ("steps", 0, "source", "magic"), "steps[0].source is 'magic'"),
        ("sample", ("steps", 2, "expansion", "model", "top", 7, [3]), "steps[2].expansion.model.top[7] is [3]"),
        ("sample", ("steps", 2, "expansion", "processors", 1, "after", "kept", 2), "processors[1].after.kept is 2"),
        ("sample", ("new_ids", [1]), "steps choose other tokens than its new_ids"),
        ("sample", ("tokens", {"one": "x"}), "tokens.one is no token's"),
        ("beams", ("tree", 4, "parent", 4), "tree[4] does not fit into the tree"),
        ("beams", ("tree", 4, "length", 7), "tree[4] does not fit into the tree"),
        ("beams", ("tree", 4, "fate", "lost"), "tree[4].fate is 'lost'"),
        ("beams", ("returned", 999), "result is hypothesis 999, which its tree does not have"),
        ("beams", ("returned", 1), "hypothesis 1, has other tokens than its new_ids"),
        ("prompt lookup", ("accepted", 99), "accepted 99 tokens of"),
    ],
)
def test_errors_name_the_damaged_place(
    records: dict[str, Record], way: str, change: tuple[Any, ...], message: str
) -> None:
    plain = copy.deepcopy(records[way].to_dict())
    *path, last, value = change
    holder = plain
    for key in path:
        holder = holder[key]
    holder[last] = value
    with pytest.raises(RecordError) as raised:
        Record.from_json(json.dumps(plain))
    assert message in str(raised.value)


def test_infinite_numbers_and_lone_surrogates_are_written_and_read_back() -> None:
    wide = np.array([3e38, -3e38, 0, 1], dtype=np.float32)
    model = ScriptedEngine(lambda ids: wide, vocab_size=4)
    for options in ({}, {"do_sample": True, "seed": 0}):
        task = prepare(
            model, [[1]], GenerationOptions(max_new_tokens=2, **options), recorder=Recorder(full="seed" in options)
        )
        with np.errstate(over="ignore"):  # differences of these logits overflow float32
            record = generations(task, finish(start(task)), None, "\udcff.safetensors")[0].record
        assert record is not None
        text = record.to_json()
        assert "-inf" in text
        assert text.encode("utf-8")
        assert Record.from_json(text) == record
        VALIDATOR.validate(json.loads(text))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '{"a": 1}', "[" * 100_000, '{"schema": 1e999}'])
def test_an_invalid_record_is_an_error(text: str) -> None:
    with pytest.raises(RecordError):
        Record.from_json(text)


@pytest.mark.parametrize(
    ("full", "message"),
    [("AAAA", "it must be float32 numbers"), ("*", "it must be base64"), ("AADAfw==", "it must be float32 numbers")],
)
def test_an_invalid_full_distribution_is_an_error(engine: ReferenceEngine, full: str, message: str) -> None:
    plain = recorded(engine, {}, full=True)[0].to_dict()
    plain["steps"][1]["expansion"]["model"]["full"] = full
    with pytest.raises(RecordError) as raised:
        Record.from_json(json.dumps(plain))
    assert "steps[1].expansion.model.full" in str(raised.value)
    assert message in str(raised.value)


def test_whole_distributions_are_over_all_ids_the_record_names(engine: ReferenceEngine) -> None:
    plain = recorded(engine, {"max_new_tokens": 1}, full=True)[0].to_dict()
    plain["steps"][0]["expansion"]["model"]["full"] = "AAAAAA=="
    with pytest.raises(RecordError, match="whole distributions have 1 ids"):
        Record.from_json(json.dumps(plain))
