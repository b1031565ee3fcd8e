"""A program that does not respond to signals for minutes, as in compiled code: `python stuck.py KIND`."""

import hashlib
import sys
import time

from jnst.apps.cli.interruption import interruptible, promptly


def compute() -> None:
    """A single call that takes minutes to return to the interpreter."""
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2**31 - 1)


def fail() -> None:
    raise OSError("no space left")


LAST_RESORTS = {"saves": lambda: print("saved"), "fails": fail, "responds": lambda: print("saved"), "none": None}


def main(kind: str) -> int:
    with promptly():
        if kind == "before the run":
            print("ready", flush=True)
            compute()
        with interruptible(LAST_RESORTS[kind]) as interruption:
            print("ready", flush=True)
            while kind == "responds" and not interruption.signal_number:
                time.sleep(0.01)
            if kind != "responds":
                compute()
        print("ended")
        return 128 + interruption.signal_number


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)  # The signal came before the call.
