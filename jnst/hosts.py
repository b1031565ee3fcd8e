"""Several processes, on one host or many, that share work through JAX's own distributed runtime.

Each process computes by itself, on its own devices (`jax.local_devices`); all they have in common is the coordination
service that runs in process 0. On CPUs no collective operations between processes are set up.

**Which devices a process sees.** By default JAX gives every process all devices of its host, except under Slurm and
Open MPI: there it reckons with one process for each GPU, and process n of a host gets the host's n-th GPU alone
(CPU devices and TPUs are not restricted). Two ways of starting need more than that, and say so in the environment:

- one process for a whole host with several GPUs: ``JAX_LOCAL_DEVICE_IDS=0,1,2,3``, or only the first would be used;
- a launcher that already shows each process its own GPU only (Slurm's ``--gpus-per-task``): ``JAX_LOCAL_DEVICE_IDS=0``,
  for in each process' view there is no n-th one.

Several processes that are started by hand on one host with GPUs need ``CUDA_VISIBLE_DEVICES`` or
``JAX_LOCAL_DEVICE_IDS`` too: each would take most of the memory of all of them.

**When a process is lost** (killed, its host gone, stopped), the runtime ends all others by ``SIGABRT``, in the middle
of whatever they do. If the lost one is process 0, the others end when its connections close, or with the heartbeat if
these stay open; else `connect`'s `heartbeat_seconds` after the last sign of life. The message on standard error, JAX's
own, has the numbers of the lost processes after "stopped sending heartbeats". A process that is slow is not lost: its
heartbeats come from a thread that no computation delays.

**When a process ends early by itself**, by an error or an interruption, the others learn of it at the next `barrier`,
which raises: until there they do their own part of the work. Processes that have ended wait for each other when the
interpreter exits, however long the others take. Ctrl-C ends that wait, and the others with the heartbeat.
"""

import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.errors import JaxRuntimeError

from jnst.errors import JnstError, ResourceError

CLUSTERS = ("Open MPI before 5", "Slurm", "Cloud TPU", "Kubernetes")
"""The environments that JAX reads, in the order in which it looks for them."""

HEARTBEAT_SECONDS, _NEVER = 100, 7 * 24 * 3600
_PLACES, _ENDED = "jnst/places", "jnst/ended"
_FIRST_PAUSE, _LONGEST_PAUSE, _PATIENCE = 0.02, 1.0, 10.0
_MOST_NAMED = 8
_INTERRUPTED = 130


class Hosts(NamedTuple):
    """Which of the processes this one is.

    Attributes:
        rank: This process' number, from 0.
        count: How many processes there are.
    """

    rank: int
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]


def connect(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
    connect_seconds: int = 300,
) -> Hosts:
    """Connect this process with the others, and wait until all have come.

    To be called once, before anything that touches JAX's devices. What is not given is read from the cluster's
    environment (see `CLUSTERS`); the coordinator also from ``JAX_COORDINATOR_ADDRESS``, and its port alone from
    ``JAX_COORDINATOR_PORT``.

    Args:
        coordinator: Host and port of process 0, as all processes reach it: ``"node1:1234"``. Any free port will do.
        num_processes: How many processes there are.
        process_id: This process' number, from 0.
        heartbeat_seconds: How long a process may be silent before it counts as lost, in seconds.
        connect_seconds: How long to wait for the others, in seconds.

    Raises:
        JnstError: Arguments that are wrong, or that are missing where JAX finds no cluster.
        ResourceError: The coordinator does not answer, not all processes have come, or the port is taken. This
            process cannot connect any more, and is to end; where others were waited for, its exit status will be 6.

    References:
        https://docs.jax.dev/en/latest/multi_process.html
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    _check_numbers(num_processes, process_id)
    _check_coordinator(coordinator, here=process_id == 0)
    for name, seconds in (("heartbeat_seconds", heartbeat_seconds), ("connect_seconds", connect_seconds)):
        if seconds < 1:
            raise JnstError(f"{name} {seconds}: expected at least 1")
    if jax.distributed.is_initialized():
        raise JnstError("this process is connected already: call connect once")
    # Without them each process reduces over its own devices in memory, with them through sockets.
    jax.config.update("jax_cpu_collectives_implementation", None)
    given = {"coordinator_address": coordinator, "num_processes": num_processes, "process_id": process_id}
    _initialize(given, heartbeat_seconds, connect_seconds)
    _restore_termination()
    # Asking for them starts the devices, which all processes must do at about the same time.
    hosts = Hosts(jax.process_index(), jax.process_count())
    atexit.register(_end, _state().client, hosts)
    return hosts


def barrier(name: str) -> None:
    """Wait until all processes have come to the place of this name, however long that takes.

    Args:
        name: Says in messages where processes wait for each other. Every place has a name of its own.

    Raises:
        JnstError: `connect` has not been called, or the name has been used before.
        ResourceError: A process ended before it came here; or the coordinator is lost, unless JAX ends this process
            before it can say so.
    """
    if not jax.distributed.is_initialized():
        raise JnstError(f"barrier {name!r}: call connect first")
    client, hosts = _state().client, Hosts(jax.process_index(), jax.process_count())
    place = f"{_PLACES}/{urllib.parse.quote(name, safe='')}"
    try:
        client.key_value_set(f"{place}/{hosts.rank}", "")
        for pause in _pauses():
            # Read first who has ended: they may have been here before.
            ended = _ranks(client, _ENDED)
            missing = set(range(hosts.count)) - _ranks(client, place)
            if not missing:
                return
            if ended & missing:
                raise ResourceError(
                    f"{_named(ended & missing, hosts)} ended before {name!r}, for a reason that its own messages say: "
                    "run the command again, what is done is kept"
                )
            time.sleep(pause)
    except JaxRuntimeError as error:
        if "ALREADY_EXISTS" in str(error):
            raise JnstError(f"barrier {name!r}: this name has been used before: choose another") from error
        raise ResourceError(
            f"the coordinator, process 0 of {hosts.count}, is lost: run the command again, what is done is kept"
        ) from error


def _end(client: Any, hosts: Hosts) -> None:
    """Wait at exit until all processes have ended: where one is still busy after 300 s, JAX's own exit aborts all."""
    begun, said = time.monotonic(), False
    try:
        client.key_value_set(f"{_ENDED}/{hosts.rank}", "")
        for pause in _pauses():
            busy = set(range(hosts.count)) - _ranks(client, _ENDED)
            if not busy:
                return
            if not said and time.monotonic() - begun > _PATIENCE:
                print(
                    f"jnst: {_named({hosts.rank}, hosts)} has ended and waits for {_named(busy, hosts)}; "
                    "Ctrl-C leaves at once, and ends the others",
                    file=sys.stderr,
                )
                said = True
            time.sleep(pause)
    except JaxRuntimeError:
        return
    except KeyboardInterrupt:
        _leave(_INTERRUPTED)


def _leave(status: int) -> None:
    """End without JAX's own end: that waits for the others, also for those that never came."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def _state() -> Any:
    # JAX keeps its coordination client here only. Its public barrier, multihost_utils.sync_global_devices, is a
    # computation over all devices, which has time limits of its own and needs collectives.
    from jax._src import distributed

    return distributed.global_state


def _ranks(client: Any, place: str) -> set[int]:
    return {int(key.rpartition("/")[2]) for key, _ in client.key_value_dir_get(f"{place}/")}


def _pauses() -> Iterator[float]:
    """Seconds between two looks: short at first, for most waits are."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(1.3 * pause, _LONGEST_PAUSE)


def _named(ranks: set[int], hosts: Hosts) -> str:
    if len(ranks) > _MOST_NAMED:
        return f"{len(ranks)} of {hosts.count} processes"
    return f"process{'es' if len(ranks) > 1 else ''} {', '.join(map(str, sorted(ranks)))} of {hosts.count}"


def _initialize(given: dict[str, Any], heartbeat_seconds: int, connect_seconds: int) -> None:
    # In a thread, and without a limit of JAX's own: JAX aborts the process when one is reached.
    limits = {"heartbeat_timeout_seconds": heartbeat_seconds, "initialization_timeout": _NEVER}
    attempt = _in_background(partial(jax.distributed.initialize, **given, **limits))
    try:
        attempt.result(connect_seconds)
    except TimeoutError:
        atexit.register(_leave, ResourceError.exit_code)
        raise ResourceError(_nobody_came(connect_seconds)) from None
    except KeyboardInterrupt:
        atexit.register(_leave, _INTERRUPTED)
        raise
    except (ValueError, KeyError, RuntimeError) as error:
        raise JnstError(_not_connected(given, error)) from error


def _in_background(function: Callable[[], None]) -> Future[None]:
    """Call a function in a thread that does not keep the interpreter from ending."""
    future: Future[None] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def _restore_termination() -> None:
    """Let SIGTERM do again what it did: the runtime catches it for a service that is not used here."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _check_coordinator(coordinator: str | None, here: bool) -> None:
    """Check the address' form and, in the process that is to serve it, its port: JAX may crash where it is taken."""
    if coordinator is None:
        return
    host, _, port = coordinator.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
        raise JnstError(f"coordinator {coordinator!r}: expected host and port of process 0, such as node1:1234")
    if not here or "JAX_COORDINATOR_BIND_ADDRESS" in os.environ:
        return
    with socket.socket(socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", int(port)))
        except OSError as error:
            raise ResourceError(f"coordinator {coordinator!r}: {error.strerror} here: choose another port") from None


def _check_numbers(num_processes: int | None, process_id: int | None) -> None:
    if num_processes is not None and num_processes < 1:
        raise JnstError(f"num_processes {num_processes}: expected at least 1")
    if process_id is None:
        return
    if process_id < 0:
        raise JnstError(f"process_id {process_id}: expected a number from 0")
    if num_processes is not None and process_id >= num_processes:
        raise JnstError(
            f"process_id {process_id} of num_processes {num_processes}: expected a number from 0 to {num_processes - 1}"
        )


def _nobody_came(seconds: int) -> str:
    state = _state()
    return (
        f"process {state.process_id} of {state.num_processes}: coordinator {state.coordinator_address} and all others "
        f"were not together within {seconds} s: check that all processes have been started, and that each reaches "
        "this address, which is process 0's"
    )


def _not_connected(given: dict[str, Any], error: Exception) -> str:
    missing = [name.removesuffix("_address") for name, value in given.items() if value is None]
    remedy = (
        "give coordinator (HOST:PORT of process 0), num_processes and process_id, or start the processes with srun "
        "or mpirun"
    )
    if missing and "defined" in str(error):
        return f"{', '.join(missing)} not given, and JAX finds no cluster ({', '.join(CLUSTERS)}): {remedy}"
    said = f"no connection with other processes ({_line(error)})"
    return f"{said}: {remedy}" if missing else said


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
