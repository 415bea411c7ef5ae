"""Keeps a stack's logs from filling the disk: `python logs.py FOLDER` looks at them once a minute.

A log that has grown is copied to `<name>.log.1` and emptied. Its process goes on writing, because it appends. What it
writes between the copy and the emptying, some microseconds, is lost.
"""

import os
import shutil
import sys
import time
from pathlib import Path

LARGEST = 20_000_000
"""Bytes; with the copy a process's log takes up to twice as much."""
EVERY_SECONDS = 60.0


def rotate(folder: Path, largest: int = LARGEST) -> list[Path]:
    """Copies and empties each log that is larger; returns them."""
    rotated = []
    for log in sorted(folder.glob("*.log")):
        if log.stat().st_size > largest:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)
            rotated.append(log)
    return rotated


if __name__ == "__main__":
    while True:
        rotate(Path(sys.argv[1]))
        time.sleep(EVERY_SECONDS)
