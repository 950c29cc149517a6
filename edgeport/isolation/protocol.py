"""The files by which parent and child talk; both sides import this, so it imports nothing of weight.

They lie in a private folder that the parent makes and removes. stdout carries nothing: runtimes print there.
"""

from __future__ import annotations

__all__ = [
    "FAULTS",
    "MORE_MEMORY",
    "MORE_TIME",
    "PROGRESS",
    "REQUEST",
    "RESULT",
    "RESULT_LIMIT_BYTES",
    "is_out_of_memory",
]

REQUEST = "request.json"
RESULT = "result.json"
"""Appears whole (it is renamed into place), or not at all."""
PROGRESS = "progress.jsonl"
"""One progress event a line."""
FAULTS = "faults.txt"
"""What `faulthandler` wrote."""

RESULT_LIMIT_BYTES = 256 << 20
"""A larger result is refused unread: big data belongs in a file that the payload names."""

MORE_TIME = "allow more time (time_limit_s in a recipe's [search]), or look at the stack for where it hangs"
MORE_MEMORY = "allow more memory (memory_limit in a recipe's [search]), or use a smaller model or batch"
"""What to do about a limit."""

_OUT_OF_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate memory",
    "unable to allocate",
)
"""How C++ runtimes say what Python calls MemoryError (libstdc++, MSVC, CUDA, torch, the C library, ONNX Runtime)."""


def is_out_of_memory(text: str) -> bool:
    """Whether an error's text says that memory ran out."""
    lower = text.lower()
    return any(phrase in lower for phrase in _OUT_OF_MEMORY)
