"""Run a command `jnst` in this process, and print how much it compiled, as JSON.

    python watched_command.py ARGUMENTS

This file imports nothing else from this folder, so that it can run with the jnst of any checkout.
"""

import json
import sys
from typing import Any

import jax

EVENT = "/jax/core/compile/backend_compile_duration"
HIT = "/jax/compilation_cache/cache_hits"


def main() -> int:
    seconds, events = list[float](), list[str]()

    def note(event: str, duration_secs: float, **_: Any) -> None:
        if event == EVENT:
            seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(note)
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
    try:
        from jnst.apps.cli import main as run
    except ImportError:  # version 0.1
        from jnst.cli import main as run  # pyright: ignore[reportMissingImports]
    status = run()
    programs = len(seconds) - events.count(HIT)
    print(json.dumps({"status": status, "programs": programs, "compile_seconds": sum(seconds)}))
    return status


if __name__ == "__main__":
    sys.exit(main())
