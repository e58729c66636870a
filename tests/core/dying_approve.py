"""Approves a version and dies: python dying_approve.py WORKSPACE VERSION STEP.

SIGKILL comes before the step of this number among those that write: statements, the commit's aftermath, files. Exit status 0: there is no such step.
"""

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from helpers import SECOND_LEAD

from fercore import versions
from fercore.domain import Workspace
from fercore.store import Store, connection
from fercore.versions import lifecycle, record


def die_before(step: int) -> None:
    count = itertools.count()

    def counted(owner: Any, name: str) -> None:
        whole = getattr(owner, name)

        def act(*args: Any, **kwargs: Any) -> Any:
            if next(count) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(*args, **kwargs)

        setattr(owner, name, act)

    for owner, name in ((connection.Writer, "run"), (Path, "write_text"), (Path, "replace"), (lifecycle, "mend"), (record, "publish")):
        counted(owner, name)


if __name__ == "__main__":
    with Store(Workspace(Path(sys.argv[1]))) as opened:
        die_before(int(sys.argv[3]))
        versions.approve(opened, SECOND_LEAD, sys.argv[2], "killed meanwhile")
        os._exit(0)
