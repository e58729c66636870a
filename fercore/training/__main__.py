"""python -m fercore.training RUN_DIR"""

import os
import signal
import sys
from pathlib import Path

from fercore.errors import FerError
from fercore.training.worker import run


def main(arguments: list[str]) -> int:
    """Exit status 0 for a finished run, 1 for any other end, 2 for a wrong call."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m fercore.training RUN_DIR", file=sys.stderr)
        return 2
    run_dir = Path(arguments[0]).resolve()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it, set before CUDA starts
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads train 3-50 times slower beside other work
    if hasattr(os, "nice"):
        os.nice(10)  # whoever labels at this machine goes first
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: (run_dir / "cancel").touch())
    try:
        return 0 if run(run_dir) == "finished" else 1
    except FerError as e:
        print(e, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
