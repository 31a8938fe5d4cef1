"""Catalogue of the benchmark: runtimes, their precisions, and the cases."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENTS = REPOSITORY / "build" / "peers"

# Weight formats by size. Runtimes are compared at the same width.
WIDTHS = ("float32", "16 bits", "int8", "int4")


@dataclass(frozen=True, eq=False)
class Peer:
    """A runtime.

    module: the worker is `peers.<module>`. precisions: width to the runtime's own name for it. environment: folder
    under `build/peers` with the virtual environment of the runtime; None runs it in this environment.
    """

    name: str
    module: str
    precisions: dict[str, str]
    environment: str | None = None
    beam_search: bool = True

    @property
    def python(self) -> Path:
        if self.environment is None:
            return Path(sys.executable)
        programs = "Scripts" if os.name == "nt" else "bin"
        return ENVIRONMENTS / self.environment / programs / "python"

    def is_installed(self) -> bool:
        if self.environment is None:
            return find_spec(self.module) is not None
        return (ENVIRONMENTS / self.environment / ".installed").exists()


@dataclass(frozen=True)
class Contestant:
    """A runtime in one of its precisions."""

    peer: Peer
    width: str

    @property
    def precision(self) -> str:
        return self.peer.precisions[self.width]

    @property
    def name(self) -> str:
        return f"{self.peer.name} {self.precision}"


@dataclass(frozen=True)
class Case:
    """One call of `generate`, and how its speed is computed.

    counts: "decoding" divides the tokens after the first by the time from the first token to the last; "prompt" divides
    the prompt tokens by the time to the first token; "whole" divides the new tokens by the time of the whole call.
    widths: the widths to measure. A runtime that has none of them is measured in all widths that it has.
    """

    name: str
    title: str
    prompt: int
    new_tokens: int
    counts: str
    sequences: int = 1
    beams: int = 1
    widths: tuple[str, ...] = WIDTHS

    def is_for(self, contestant: Contestant) -> bool:
        peer = contestant.peer
        return (self.beams == 1 or peer.beam_search) and (
            contestant.width in self.widths or not set(self.widths).intersection(peer.precisions)
        )

    def prompts(self, seed: int, vocabulary: int) -> list[list[int]]:
        """Random token ids, [sequences, prompt]. They differ by seed, so that no prefix cache has seen them."""
        generator = np.random.default_rng([seed, self.prompt, self.sequences])
        return generator.integers(0, vocabulary, (self.sequences, self.prompt)).tolist()

    def tokens_per_second(self, first: float, last: float) -> float:
        if self.counts == "prompt":
            return self.sequences * self.prompt / first
        if self.counts == "whole":
            return self.sequences * self.new_tokens / last
        return self.sequences * (self.new_tokens - 1) / (last - first)


CASES = (
    Case("alone", "batch 1", 32, 64, "decoding"),
    Case("context", "batch 1, context of 1,000", 968, 48, "decoding", widths=("int8",)),
    Case("batch", "batch 16", 32, 32, "decoding", sequences=16),
    Case("prompt", "prompt of 512", 512, 1, "prompt"),
    Case("beams", "4 beams", 32, 32, "whole", beams=4, widths=("float32", "int8")),
)

OURS = Peer("Pellucid", "pellucid", {"float32": "float32", "16 bits": "bfloat16", "int8": "int8", "int4": "int4"})
TRANSFORMERS = Peer("Transformers", "transformers", {"float32": "float32", "16 bits": "bfloat16"})
PEERS = (
    OURS,
    TRANSFORMERS,
    Peer("CTranslate2", "ctranslate2", {"float32": "float32", "int8": "int8"}, "ctranslate2"),
    Peer(
        "llama.cpp",
        "llama_cpp",
        {"float32": "f32", "16 bits": "f16", "int8": "q8_0", "int4": "q4_0"},
        "llama_cpp",
        beam_search=False,
    ),
    Peer(
        "OpenVINO GenAI",
        "openvino",
        {"float32": "f32", "16 bits": "16-bit", "int8": "int8", "int4": "int4"},
        "openvino",
    ),
)


def contestants(peers: Sequence[Peer], processor_features: Sequence[str]) -> list[Contestant]:
    """Pairs of runtime and width to measure.

    Transformers in bfloat16 is left out on a processor without bfloat16 instructions, where torch takes minutes.
    """
    has_bfloat16 = bool({"avx512_bf16", "bf16", "amx_bf16"}.intersection(processor_features))
    return [
        Contestant(peer, width)
        for peer in peers
        for width in WIDTHS
        if width in peer.precisions and (peer is not TRANSFORMERS or width == "float32" or has_bfloat16)
    ]


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
