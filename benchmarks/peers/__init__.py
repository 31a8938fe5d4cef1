"""Other runtimes that decode GPT-2, each behind the same calls, for `benchmarks/decode.py`.

`bench.py`'s side is `processes` (workers as the driver sees them) and `catalogue` (who takes part); a worker's is
`protocol` and one module a runtime. A worker runs in the environment of its runtime, so that those modules know
nothing but the standard library, their runtime, and `protocol`.
"""
