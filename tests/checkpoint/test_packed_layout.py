"""Sizes of packed weights are computed from the configuration."""

from __future__ import annotations

from pellucid import GPT2Config
from pellucid.checkpoint.packed_layout import weight_bytes


def test_float32_weights_take_four_bytes_a_parameter() -> None:
    config = GPT2Config(n_layer=3, vocab_size=96, n_embd=64, n_head=4, tie_word_embeddings=False)
    assert weight_bytes(config, "float32") == 4 * config.parameter_count


def test_an_enormous_layer_count_is_summed_without_a_list_of_layers() -> None:
    small, huge = GPT2Config(n_layer=2), GPT2Config(n_layer=2**31 - 1)
    layer = weight_bytes(GPT2Config(n_layer=3), "int8") - weight_bytes(small, "int8")
    assert weight_bytes(huge, "int8") == weight_bytes(small, "int8") + (huge.n_layer - 2) * layer
