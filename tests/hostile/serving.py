"""The worker's side of `worker.py`: runs the calls that arrive on stdin, one JSON object a line, and measures them."""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from pellucid.errors import PellucidError

CPU_SECONDS = 10


def serve(module: str, address_space: int) -> None:
    """Answer calls of a module's functions until stdin ends. address_space: bytes that the process may map beyond
    those it has mapped after importing the module; 0 for as many as it likes (a sanitizer maps terabytes)."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a call prints belongs to the log
    functions = importlib.import_module(module)
    if address_space:
        allowed = _status("VmSize") + address_space
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(_measured(getattr(functions, name), arguments)), file=answers, flush=True)


def _measured(function: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    _limit_cpu()
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    held, begun = _status("VmRSS"), time.process_time()
    kind, detail, value = "done", "", None
    try:
        value = function(**arguments)
    except PellucidError as error:
        kind, detail = "refused", f"{type(error).__name__}: {error}"
    except AssertionError as error:  # what the trial itself found
        kind, detail = "wrong", f"{error}"
    except BaseException as error:  # a panic of an extension in Rust is no Exception
        kind, detail = type(error).__name__, f"{error}"
    seconds, memory = time.process_time() - begun, max(0, _status("VmHWM") - held)
    return {"kind": kind, "detail": detail, "value": value, "seconds": seconds, "memory": memory}


def _limit_cpu() -> None:
    """Let the kernel end a call that computes for too long, whatever it is doing."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + CPU_SECONDS + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _status(field: str) -> int:
    """Bytes, from /proc."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
