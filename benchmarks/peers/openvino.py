"""OpenVINO GenAI: `LLMPipeline` on a model exported by optimum-intel, with weights quantized by NNCF.

Precision "f32" computes in float32. The others compute in the runtime's preferred type, which is bfloat16 if the
processor supports it. KV cache and activations have the runtime's default types.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import openvino
import openvino_genai

from peers.protocol import Assignment, Generated, serve


class OpenVINO:
    def __init__(self, assignment: Assignment) -> None:
        folder = assignment.convert(lambda folder: export(assignment.checkpoint, folder, assignment.precision))
        settings = {
            "INFERENCE_NUM_THREADS": assignment.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if assignment.precision == "f32":
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        self._pipeline = openvino_genai.LLMPipeline(str(folder), "CPU", **settings)
        self.versions = {
            "openvino": openvino.__version__.split("-")[0],
            "openvino-genai": openvino_genai.__version__.split("-")[0],
        }

    def generate(self, prompts: list[list[int]], new_tokens: int, beams: int) -> Generated:
        ids = np.array(prompts, np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        options = openvino_genai.GenerationConfig()
        options.max_new_tokens = options.min_new_tokens = new_tokens
        options.ignore_eos = True
        options.num_beams = beams
        options.apply_chat_template = False
        began = time.perf_counter()
        result = self._pipeline.generate(inputs, options)
        last = time.perf_counter() - began
        first = result.perf_metrics.get_ttft().mean / 1000 if beams == 1 else last
        return Generated([list(map(int, ids)) for ids in result.tokens], first, last)


def export(checkpoint: Path, folder: Path, precision: str) -> None:
    """Write model and tokenizer as `LLMPipeline` reads them, with weights in the given precision."""
    import nncf
    from openvino_tokenizers import convert_tokenizer
    from optimum.intel import OVModelForCausalLM
    from transformers import AutoTokenizer

    whole = folder.parent / "openvino-exported"
    if not whole.exists():
        exported = OVModelForCausalLM.from_pretrained(checkpoint, export=True, compile=False, load_in_8bit=False)
        exported.save_pretrained(whole)
    for name in ("config.json", "generation_config.json"):
        shutil.copy(whole / name, folder)
    model = openvino.Core().read_model(whole / "openvino_model.xml")
    if precision == "int8":
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    elif precision == "int4":  # NNCF keeps the first and the last layer in int8
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=128, ratio=1.0)
    openvino.save_model(model, folder / "openvino_model.xml", compress_to_fp16=precision != "f32")
    tokenizer, detokenizer = convert_tokenizer(AutoTokenizer.from_pretrained(checkpoint), with_detokenizer=True)
    openvino.save_model(tokenizer, folder / "openvino_tokenizer.xml")
    openvino.save_model(detokenizer, folder / "openvino_detokenizer.xml")


if __name__ == "__main__":
    serve(OpenVINO)
