"""llama.cpp: its C API through llama-cpp-python, on GGUF files that this module writes.

Decoding calls `llama_decode` in a loop and takes the argmax of the logits, which is faster than llama.cpp's samplers.
"""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from safetensors.numpy import load_file

from peers.protocol import Assignment, Generated, serve

FILE_TYPES = {
    "f32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "f16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
}

NAMES = {
    "wte.weight": "token_embd.weight",
    "wpe.weight": "position_embd.weight",
    "ln_f.weight": "output_norm.weight",
    "ln_f.bias": "output_norm.bias",
}
BLOCK_NAMES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


class LlamaCpp:
    def __init__(self, assignment: Assignment) -> None:
        llama_cpp.llama_backend_init()
        # llama.cpp keeps calling the callback: it must not be garbage collected.
        self._silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._silence, ctypes.c_void_p(0))
        folder = assignment.convert(lambda folder: write_gguf(assignment.checkpoint, folder, assignment.precision))
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(str(folder / "model.gguf").encode(), parameters)
        if not self._model:
            raise RuntimeError(f"llama.cpp could not load {folder / 'model.gguf'}")
        self._threads = assignment.threads
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._positions = llama_cpp.llama_model_n_ctx_train(self._model)
        self._contexts: dict[int, ctypes.c_void_p] = {}
        self.versions = {"llama-cpp-python": version("llama-cpp-python")}

    def generate(self, prompts: list[list[int]], new_tokens: int, beams: int) -> Generated:
        if beams > 1:
            raise ValueError("llama.cpp has no beam search")
        context = self._context(len(prompts))
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
        batch = llama_cpp.llama_batch_init(sum(map(len, prompts)), 0, 1)
        try:
            began = time.perf_counter()
            steps = [self._step(context, batch, prompts, 0)]
            first = time.perf_counter() - began
            length = len(prompts[0])
            for position in range(length, length + new_tokens - 1):
                steps.append(self._step(context, batch, [[token] for token in steps[-1]], position))
            last = time.perf_counter() - began
        finally:
            llama_cpp.llama_batch_free(batch)
        return Generated([list(ids) for ids in zip(*steps, strict=True)], first, last)

    def _context(self, sequences: int) -> ctypes.c_void_p:
        if sequences not in self._contexts:
            parameters = llama_cpp.llama_context_default_params()
            parameters.n_ctx = self._positions * sequences
            parameters.n_seq_max = sequences
            parameters.n_batch = 1024
            parameters.n_threads = parameters.n_threads_batch = self._threads
            self._contexts[sequences] = llama_cpp.llama_init_from_model(self._model, parameters)
        return self._contexts[sequences]

    def _step(
        self, context: ctypes.c_void_p, batch: llama_cpp.llama_batch, rows: list[list[int]], position: int
    ) -> list[int]:
        """Append `rows[i]` to sequence i, starting at `position`; returns the most likely next token of each."""
        index, last_of = 0, []
        for sequence, ids in enumerate(rows):
            for offset, token in enumerate(ids):
                batch.token[index] = token
                batch.pos[index] = position + offset
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = sequence
                batch.logits[index] = offset == len(ids) - 1
                index += 1
            last_of.append(index - 1)
        batch.n_tokens = index
        failed = llama_cpp.llama_decode(context, batch)
        if failed:
            raise RuntimeError(f"llama_decode returned {failed}")
        return [self._likeliest(llama_cpp.llama_get_logits_ith(context, last)) for last in last_of]

    def _likeliest(self, logits: Iterable[float]) -> int:
        return int(np.ctypeslib.as_array(logits, (self._vocab_size,)).argmax())


def write_gguf(checkpoint: Path, folder: Path, precision: str) -> None:
    """Write `model.gguf` in float32 as llama.cpp's converter does, then quantize it with llama.cpp."""
    path = folder / "model.gguf"
    if precision == "f32":
        write_float32(checkpoint, path)
        return
    whole = folder / "float32.gguf"
    write_float32(checkpoint, whole)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[precision]
    failed = llama_cpp.llama_model_quantize(str(whole).encode(), str(path).encode(), ctypes.byref(parameters))
    if failed:
        raise RuntimeError(f"llama_model_quantize returned {failed}")
    whole.unlink()


def write_float32(checkpoint: Path, path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_name("benchmark")
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    add_vocabulary(writer, checkpoint)
    for key, tensor in load_file(checkpoint / "model.safetensors").items():
        name = gguf_name(key.removeprefix("transformer."))
        # GPT-2 stores the matrices of its layers as [in, out]; GGUF stores [out, in].
        layer_matrix = name.startswith("blk.") and tensor.ndim == 2
        writer.add_tensor(name, np.ascontiguousarray(tensor.T) if layer_matrix else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter, checkpoint: Path) -> None:
    vocabulary = json.loads((checkpoint / "vocab.json").read_text(encoding="utf-8"))
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    end = vocabulary["<|endoftext|>"]
    merges = (checkpoint / "merges.txt").read_text(encoding="utf-8").splitlines()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token == tokens[end] else gguf.TokenType.NORMAL for token in tokens]
    )
    writer.add_token_merges([merge for merge in merges if merge and not merge.startswith("#version")])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)


def gguf_name(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    _, block, rest = name.split(".", 2)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{block}.{BLOCK_NAMES[part]}.{kind}"


if __name__ == "__main__":
    serve(LlamaCpp)
