"""A program that hears no signal for a long time, as in compiled code. `python stuck.py KIND`, to be interrupted."""

import hashlib
import sys
import time

from jnst.apps.cli.interruption import interruptible, promptly


def compute() -> None:
    """One call, of minutes, that returns to the interpreter at its end only."""
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2**31 - 1)


def fail() -> None:
    raise OSError("no space left")


def main(kind: str) -> int:
    with promptly():
        if kind == "loading":
            print("ready", flush=True)
            compute()
        resort = {"saves": lambda: print("saved"), "fails": fail, "heard": lambda: print("saved"), "bare": None}[kind]
        with interruptible(resort) as interruption:
            print("ready", flush=True)
            while kind == "heard" and not interruption.signal_number:
                time.sleep(0.01)
            if kind != "heard":
                compute()
        print("ended")
        return 128 + interruption.signal_number


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)  # The signal came before the call.
