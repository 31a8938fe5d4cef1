"""Text to ids and back."""

from pellucid.tokenizer.gpt2_tokenizer import GPT2Tokenizer
from pellucid.tokenizer.streaming import StreamDecoder

__all__ = ["GPT2Tokenizer", "StreamDecoder"]
