"""Several ranks on this machine, forked of one process so that torch is loaded once."""

import os
import sys
import traceback


def forked(ranks, run):
    """Call `run(rank)` in a fork for each rank, and exit with 0 if none of them fails."""
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(rank)
                code = 0
            except SystemExit as told:
                print(f"rank {rank}: {told}", file=sys.stderr)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)  # the parent alone ends as an interpreter does
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(abs(code) for code in codes))
