"""How much memory is left."""

from __future__ import annotations


def memory_free() -> int:
    """Bytes that this process may still take, as far as the system says; else very many."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 2**62
