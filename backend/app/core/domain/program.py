"""The name by which this program can be started, for hints that name one of its commands."""

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "atelier"


def program(*, for_clients: bool = False) -> str:
    """What to type to start this program: `atelier` where the shell finds it, else its path, relative where it is below here.

    Args:
        for_clients: the text goes to clients of the service, which are not told where its files are: a path that is
            not below the current folder is left out.
    """
    script = _script()
    found = shutil.which(NAME)
    if script is None or (found is not None and script.samefile(found)):
        return NAME
    here = Path.cwd()
    if script.is_relative_to(here):
        return shlex.quote(str(script.relative_to(here)))
    return NAME if for_clients else shlex.quote(str(script))


def _script() -> Path | None:
    """The script that was started, else the one beside the interpreter."""
    started = Path(os.path.abspath(sys.argv[0]))  # noqa: PTH100 - links in it are part of the name
    for script in (started, Path(sys.executable).parent / NAME):
        if script.name == NAME and script.is_file():
            return script
    return None
