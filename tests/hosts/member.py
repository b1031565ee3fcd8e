"""One of the processes that the tests start: `member.py SCENARIO FOLDER` with `connect`'s arguments as JSON."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jnst.errors import JnstError
from jnst.hosts import Hosts, barrier, connect


def say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def complaint(function: Any, *args: Any, **options: Any) -> str:
    try:
        function(*args, **options)
    except JnstError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def meet(hosts: Hosts, folder: Path) -> None:
    """Each leaves a file, the first process after a while, and looks after the barrier for all files."""
    if hosts.rank == 0:
        time.sleep(float(os.environ.get("SLOWNESS", "0.5")))
    (folder / f"{hosts.rank}").touch()
    barrier("files/written")
    found = sorted(path.name for path in folder.iterdir())
    barrier("files counted")
    again = complaint(barrier, "files counted")
    once_more = complaint(connect)
    say(**hosts._asdict(), local=jax.local_device_count(), found=found, again=again, once_more=once_more)
    if hosts.rank == 0:
        time.sleep(0.5)


def wait(hosts: Hosts, folder: Path) -> None:
    """The process that is to be killed sleeps, the other waits for it."""
    say(**hosts._asdict())
    if hosts.rank == int(os.environ["VICTIM"]):
        time.sleep(600)
    barrier("never")


def compute(hosts: Hosts, folder: Path) -> None:
    """The process that is to be killed sleeps, the other computes."""
    double = jax.jit(lambda x: x @ x)
    say(**hosts._asdict())
    while hosts.rank != int(os.environ["VICTIM"]):
        double(jnp.ones((200, 200))).block_until_ready()
    time.sleep(600)


def part(hosts: Hosts, folder: Path) -> None:
    """One process ends without coming to the barrier."""
    if hosts.rank == 1:
        sys.exit(5)
    barrier("index")


def linger(hosts: Hosts, folder: Path) -> None:
    """One process ends, the other sees that, and keeps it waiting."""
    if hosts.rank == 0:
        say(complaint=complaint(barrier, "end"))
        time.sleep(600)


def terminate(hosts: Hosts, folder: Path) -> None:
    """A process ends itself as a scheduler would."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)


def lack(cases: list[tuple[dict[str, Any], dict[str, str]]]) -> None:
    """Try arguments that do not suffice, each in an environment of its own."""
    for arguments, variables in cases:
        os.environ.update(variables)
        say(complaint=complaint(connect, **arguments))
        for name in variables:
            del os.environ[name]


SCENARIOS = {function.__name__: function for function in (meet, wait, compute, part, linger, terminate)}


def main() -> int:
    # A process that a shell started in the background ignores interruptions, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    scenario, folder, arguments = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    if "cases" in arguments:
        lack(arguments["cases"])
        return 0
    try:
        SCENARIOS[scenario](connect(**arguments), folder)
    except JnstError as error:
        print(f"jnst: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
