"""The floor for `bncheck verify`: CRC32C over every byte of some files, in two threads.

`python benchmarks/raw_crc32c.py FILE...` prints the speed.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import google_crc32c

_THREADS = 2
_CHUNK = 1 << 20
# Each thread takes stretches of this size: many enough to keep both busy to the end.
_STRETCH = 64 << 20


def _checksum(path: Path, start: int, end: int) -> int:
    crc = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while start < end:
            chunk = os.pread(descriptor, min(_CHUNK, end - start), start)
            if not chunk:
                raise EOFError(f"{path} ends at byte {start}")
            crc = google_crc32c.extend(crc, chunk)
            start += len(chunk)
    finally:
        os.close(descriptor)
    return crc


def main(paths: list[Path]) -> None:
    """Read and sum up all files, and print how fast that was."""
    sizes = [path.stat().st_size for path in paths]
    stretches = [
        (path, start, min(start + _STRETCH, size))
        for path, size in zip(paths, sizes, strict=True)
        for start in range(0, size, _STRETCH)
    ]
    started = perf_counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(lambda stretch: _checksum(*stretch), stretches):
            pass
    seconds = perf_counter() - started
    print(f"{sum(sizes) / seconds / 1e9:.2f} GB/s, {sum(sizes)} bytes in {seconds:.2f} s")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
