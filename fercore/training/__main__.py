"""python -m fercore.training RUN_DIR. A launcher adds the slot, and the descriptors of its lock and the run's lock."""

import os
import signal
import sys
from pathlib import Path

from fercore.errors import FerError
from fercore.training.worker import run


def main(arguments: list[str]) -> int:
    """Exit status 0 for a finished run, 1 for any other end, 2 for a wrong call."""
    if len(arguments) not in (1, 4) or not Path(arguments[0]).is_dir():
        print("usage: python -m fercore.training RUN_DIR", file=sys.stderr)
        return 2
    run_dir = Path(arguments[0]).resolve()
    slot, *locks = map(int, arguments[1:]) if arguments[1:] else (None,)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it, set before CUDA starts
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads train 3-50 times slower beside other work
    if hasattr(os, "nice"):
        os.nice(max(0, 10 - os.nice(0)))  # whoever labels at this machine goes first; a worker started by another has it already
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: (run_dir / "cancel").touch())
    try:
        return 0 if run(run_dir, slot, [os.fdopen(file, "ab") for file in locks]) == "finished" else 1
    except FerError as e:
        print(e, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
