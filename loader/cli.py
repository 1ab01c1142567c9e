"""The command line.

What a pod runs (sidecar, probe) is told apart before anything else is imported: it is paid for in every pod.
"""

import os
import sys
from errno import ENOSPC

from loader.failure import RUN_EXIT_CODE, Failure
from loader.say import say


def main() -> int:
    """Run the command in sys.argv; returns the exit code. A Failure is printed as one line."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        if sys.argv[1:] in (["sidecar"], ["sidecar", "--once"]):
            from loader.sidecar import sidecar

            return sidecar(once="--once" in sys.argv)
        if sys.argv[1:] == ["probe"]:
            from loader.sidecar import probe

            return probe()
        from loader.parser import dispatch

        code = dispatch(sys.argv[1:])
        if sys.stdout:
            sys.stdout.flush()  # here, where what goes wrong is caught
        return code
    except Failure as failure:
        say(str(failure))
        return RUN_EXIT_CODE if command == "run" else failure.exit_code
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes once more when it ends
        return 141
    except OSError as error:  # a disk that is full, a directory that is read-only
        nameless = error.errno == ENOSPC and error.filename is None  # written to, and that is our output only
        say(f"standard output: {error.strerror}" if nameless else str(error))
        return RUN_EXIT_CODE if command == "run" else 1
    except KeyboardInterrupt:
        return 130
