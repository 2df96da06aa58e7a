import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import contextlib, resource, sys
import torch
from stateshift.memory import kept_for_reuse
with kept_for_reuse() if sys.argv[1] == "kept" else contextlib.nullcontext():
    faults = []
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    print(min(faults))  # a busy kernel may take pages away in between
    resident = lambda: int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
    inside = resident()
print(inside - resident())
"""
ARRAY = 4 * 2**24


def faults_and_bytes_handed_back(way: str) -> tuple[int, int]:
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, way], env=environment, capture_output=True, text=True, check=True
    )
    faults, back = map(int, done.stdout.split())
    return faults, back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_large_array_takes_the_memory_of_the_one_freed_before_and_all_is_handed_back_at_the_end():
    pages = ARRAY // os.sysconf("SC_PAGE_SIZE")
    plain, _ = faults_and_bytes_handed_back("plain")
    kept, back = faults_and_bytes_handed_back("kept")
    assert plain >= pages
    assert kept < pages / 100
    assert back >= ARRAY * 0.9
