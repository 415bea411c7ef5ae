"""Ends a stack and removes what it made, in its folder and elsewhere."""

import shutil
from pathlib import Path

from stack.local.processes import stop_all
from stack.local.profiles import ProfileName
from stack.local.up import profile_named


def remove_stack(folder: Path, profile: ProfileName) -> list[str]:
    """Ends everything that runs in the folder, then removes the folder and what the stack made outside it.

    Returns what it removed outside. A folder with a `server.env` belongs to the scale profile, whatever the argument
    says. StackError if a database does not answer; the folder then stays, because it says which databases to drop.
    """
    stop_all(folder)
    removed = profile_named("scale" if (folder / "server.env").exists() else profile).remove(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return removed
