"""Every cell of the reference walkthrough runs on Pellucid and prints the same output.

The model has the 124M shape and random weights; output that depends on the weights is compared with Transformers.
"""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pellucid import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

from ..pairs import relative_difference
from .cells import CAUSAL_MODEL, CELLS, CONFIG, MODEL, PRINTED

# One worker runs all of these tests, because the model is large.
pytestmark = pytest.mark.xdist_group("walkthrough")

PROMPT = "long long ago, I was"


@dataclass(frozen=True)
class Ran:
    """Output of a cell, and the value of its last line."""

    printed: str
    value: Any


@dataclass(frozen=True)
class Notebook:
    """All cells, run one after the other in one namespace."""

    folder: Path
    cells: dict[str, Ran]
    names: dict[str, Any]


def run_cell(source: str, names: dict[str, Any]) -> Ran:
    statements = ast.parse(source).body
    last = statements.pop() if isinstance(statements[-1], ast.Expr) else None
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(ast.Module(statements, []), "<cell>", "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    return Ran(printed.getvalue(), value)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    folder = tmp_path_factory.mktemp("walkthrough") / "gpt2"
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config.from_dict(CONFIG))
    # Distributions are as peaked as those of a trained model: the walkthrough multiplies probabilities, which must not
    # vanish. Blocks outweigh the embeddings; otherwise a tied model repeats its last token.
    torch.nn.init.normal_(model.transformer.wte.weight, std=0.15)
    for block in model.transformer.h:
        for layer in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_proj):
            torch.nn.init.normal_(layer.weight, std=0.15)
    model.save_pretrained(folder)
    GPT2Tokenizer.bundled().save_pretrained(folder)
    del model
    names: dict[str, Any] = {}
    cells = {}
    for name, source in CELLS.items():
        cells[name] = run_cell(source.replace('model_name = "gpt2"', f"model_name = {str(folder)!r}"), names)
    yield Notebook(folder, cells, names)
    (folder / "model.safetensors").unlink()


@pytest.fixture(scope="module")
def theirs(notebook: Notebook) -> transformers.GPT2LMHeadModel:
    return transformers.AutoModelForCausalLM.from_pretrained(notebook.folder, dtype=torch.float32)


@pytest.mark.parametrize("cell", PRINTED)
def test_a_cell_prints_what_the_document_prints(notebook: Notebook, cell: str) -> None:
    assert notebook.cells[cell].printed == PRINTED[cell]


def test_the_configuration_is_the_documents(notebook: Notebook) -> None:
    name, _, fields = repr(notebook.cells["config"].value).partition(" ")
    assert name == "GPT2Config"
    assert {key: value for key, value in json.loads(fields).items() if key in CONFIG} == CONFIG


@pytest.mark.parametrize(("cell", "tree"), [("model", MODEL), ("causal model", CAUSAL_MODEL)])
def test_the_module_tree_is_the_documents(notebook: Notebook, cell: str, tree: str) -> None:
    # Later versions of torch also print the bias option of a layer norm.
    printed = repr(notebook.cells[cell].value).replace(
        "elementwise_affine=True, bias=True)", "elementwise_affine=True)"
    )
    assert printed == tree


def test_the_blocks_by_hand_give_the_models_own_output_in_every_bit(notebook: Notebook) -> None:
    by_hand, whole = notebook.names["hidden_states"], notebook.names["last_hidden_state"]
    assert int((by_hand != whole).sum()) == 0
    assert torch.equal(by_hand, whole)


def test_the_logits_are_those_of_transformers_where_there_is_no_padding(
    notebook: Notebook, theirs: transformers.GPT2LMHeadModel
) -> None:
    inputs = notebook.names["tokenizer_out"]
    with torch.no_grad():
        expected = theirs(**inputs).logits
    unmasked = inputs["attention_mask"].bool()
    assert relative_difference(notebook.names["lm_head_logits"][unmasked], expected[unmasked]) < 1e-4


def test_the_table_lists_the_five_most_likely_tokens_of_transformers(
    notebook: Notebook, theirs: transformers.GPT2LMHeadModel
) -> None:
    table, tokenizer = notebook.cells["head"].value, notebook.names["gpt2_tokenizer"]
    assert list(table.columns) == ["input", "top 0", "top 1", "top 2", "top 3", "top 4"]
    with torch.no_grad():
        expected = theirs(**notebook.names["tokenizer_out"]).logits[:, -1].softmax(-1).topk(5)
    for row in range(2):
        for rank in range(5):
            token, percent = table.iloc[row][f"top {rank}"].removesuffix("%)").rsplit("(", 1)
            assert token == tokenizer.decode(expected.indices[row, rank])
            assert float(percent) == pytest.approx(100 * float(expected.values[row, rank]), abs=0.02)


@pytest.mark.parametrize(("kind", "options"), [("greedy", {}), ("beams", {"num_beams": 3})])
def test_handwritten_decoding_generate_and_transformers_agree(
    notebook: Notebook, theirs: transformers.GPT2LMHeadModel, kind: str, options: dict[str, Any]
) -> None:
    tokenizer = notebook.names["gpt2_tokenizer"]
    by_hand = notebook.cells[f"{kind} by hand"].value
    assert len(set(tokenizer.encode(by_hand.removeprefix(PROMPT)))) > 2, "the model only repeats itself"
    assert notebook.cells[f"{kind} by generate"].value == [by_hand]
    inputs = tokenizer(PROMPT, return_tensors="pt")
    expected = theirs.generate(**inputs, max_new_tokens=10, do_sample=False, pad_token_id=50256, **options)
    assert by_hand == tokenizer.decode(expected[0])
    assert len(expected[0]) == len(inputs["input_ids"][0]) + 10  # no <|endoftext|>


def test_the_beams_find_another_continuation_than_greedy_decoding(notebook: Notebook) -> None:
    assert notebook.cells["beams by hand"].value != notebook.cells["greedy by hand"].value
