"""The worker process of `worker.py`: runs and measures calls from stdin, one JSON object per line."""

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
    """Answer calls of the functions of a module until stdin ends. address_space: bytes that the process may map after
    importing the module; 0 for no limit (a sanitizer maps terabytes)."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # the output of calls goes to the log
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
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of memory
    held, begun = _status("VmRSS"), time.process_time()
    kind, detail, value = "done", "", None
    try:
        value = function(**arguments)
    except PellucidError as error:
        kind, detail = "refused", f"{type(error).__name__}: {error}"
    except AssertionError as error:  # a failed check of the trial
        kind, detail = "wrong", f"{error}"
    except BaseException as error:  # a panic in a Rust extension is not an Exception
        kind, detail = type(error).__name__, f"{error}"
    seconds, memory = time.process_time() - begun, max(0, _status("VmHWM") - held)
    return {"kind": kind, "detail": detail, "value": value, "seconds": seconds, "memory": memory}


def _limit_cpu() -> None:
    """Limit CPU time, so that the kernel ends a call that computes for too long."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + CPU_SECONDS + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
