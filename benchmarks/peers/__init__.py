"""Runtimes that decode GPT-2, behind one interface, for `benchmarks/decode.py`.

`decode.py` uses `processes` (starts workers and sends requests) and `catalogue` (runtimes, precisions and cases). A
worker process runs `protocol` and one module per runtime, in the environment of that runtime; these modules import only
the standard library, their runtime and `protocol`.
"""
