"""CTranslate2: `Generator.generate_batch` on the checkpoint as its converter writes it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import ctranslate2

from peers.protocol import Assignment, Generated, serve


class CTranslate2:
    def __init__(self, assignment: Assignment) -> None:
        def write(folder: Path) -> None:
            converter = ctranslate2.converters.TransformersConverter(str(assignment.checkpoint))
            converter.convert(str(folder), quantization=assignment.precision, force=True)

        folder = assignment.convert(write)
        self._generator = ctranslate2.Generator(
            str(folder),
            device="cpu",
            compute_type=assignment.precision,
            inter_threads=1,
            intra_threads=assignment.threads,
        )
        vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        self._tokens: list[str] = vocabulary
        self.versions = {"ctranslate2": ctranslate2.__version__}

    def generate(self, prompts: list[list[int]], new_tokens: int, beams: int) -> Generated:
        tokens = [[self._tokens[number] for number in ids] for ids in prompts]
        waiting = len(prompts)
        first = 0.0

        def note(_: ctranslate2.GenerationStepResult) -> bool:
            nonlocal waiting, first
            waiting -= 1
            if not waiting:
                first = time.perf_counter() - began
            return False

        began = time.perf_counter()
        results = self._generator.generate_batch(
            tokens,
            max_length=new_tokens,
            min_length=new_tokens,
            beam_size=beams,
            include_prompt_in_result=False,
            callback=note if beams == 1 else None,
        )
        last = time.perf_counter() - began
        return Generated([result.sequences_ids[0] for result in results], first or last, last)


if __name__ == "__main__":
    serve(CTranslate2)
