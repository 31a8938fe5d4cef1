"""The number of cores that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")
_CGROUP_2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_1 = Path("/sys/fs/cgroup/cpu")


def usable_cores() -> int:
    """The number of physical cores within the process's affinity and its cgroup's CPU quota, at least one.

    A core with two hardware threads counts once: the engine is bound by memory bandwidth, which the two threads share.
    """
    quota = _quota()
    cores = _cores(_affinity())
    return max(1, cores if quota is None else min(cores, math.floor(quota)))


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _cores(processors: set[int]) -> int:
    siblings = set()
    for number in processors:
        topology = _TOPOLOGY / f"cpu{number}" / "topology"
        try:
            siblings.add((topology / "thread_siblings_list").read_text().strip())
        except OSError:  # not Linux, or hidden by a container: count every logical processor
            siblings.add(str(number))
    return len(siblings)


def _quota() -> float | None:
    """The cgroup's CPU quota, in processors; None without a quota."""
    try:
        allowed, period = _CGROUP_2.read_text().split()
    except (OSError, ValueError):
        try:
            allowed = (_CGROUP_1 / "cpu.cfs_quota_us").read_text().strip()
            period = (_CGROUP_1 / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not allowed.isdigit() or not period.isdigit() or int(period) == 0:  # "max", or -1 for no limit
        return None
    return int(allowed) / int(period)
