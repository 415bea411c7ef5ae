"""`python -m benchmarks.handoff.keeper SYSTEM FOLDER`: starts one system and keeps it, as the root of its tree.

It adopts what its descendants leave behind (PR_SET_CHILD_SUBREAPER), and ends everything on a signal, or when the
benchmark that started it has gone. `<folder>/ready.json` appears when the system is up.
"""

import ctypes
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.handoff import accounting
from stack.local.processes import stop_all

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def keep(system: str, folder: Path) -> None:
    """Returns after the end of everything."""
    from benchmarks.handoff.systems import SYSTEMS

    benchmark = os.getppid()
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)  # The benchmark may be killed while all is held still.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        ready = SYSTEMS[system].start(folder)
        (folder / "ready.tmp").write_text(json.dumps(ready))
        (folder / "ready.tmp").rename(folder / "ready.json")
        while os.getppid() == benchmark:
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.5)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        accounting.resume(os.getpid())
        stop_all(folder)
        for process in accounting.tree(os.getpid())[1:]:  # Whatever has left its process group.
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]))
