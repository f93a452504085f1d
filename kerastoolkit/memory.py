"""What the commands ask of the C library's allocator."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # mallopt(3)
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tells glibc to keep what the process frees, for its next allocations; returns whether that was possible.

    On the CPU TensorFlow takes each tensor from ``malloc`` and gives it back in the same step. By default glibc returns large
    blocks to the system at once, and the next step pays for every page of them again: half the time of a convolutional network's
    step, where it happened (RESULTS.md, "Speed"). The process keeps its peak of memory until it ends.

    All of it holds only before TensorFlow has started its threads: those that run already keep arenas of their own, which return
    blocks of more than 64 MB still. And only as long as nobody makes a ``tf.data.Dataset.from_generator``: TensorFlow 2.21 then
    tells glibc to give back whatever is more than 128 kB ("Memory patch applied" in its log).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, MOST) and mallopt(ARENA_MAX, 1))
