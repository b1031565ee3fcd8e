"""Processes that meet, wait for each other, and get lost."""

import re
import signal
import socket
from pathlib import Path
from typing import Any

import jax
import pytest
from members import Process, commands, environment, explicit, free_port, next_line, started

from jnst.errors import JnstError
from jnst.hosts import CLUSTERS, barrier, connect

HEARTBEAT = 3
SLACK = 30
"""How much longer than the heartbeat an end may take, in seconds, where the machine is busy."""


def slurm(rank: int, port: int) -> dict[str, str]:
    variables = {
        "SLURM_JOB_ID": "71",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
    }
    return environment(JAX_COORDINATOR_PORT=str(port), **variables)


def open_mpi(rank: int, port: int) -> dict[str, str]:
    variables = {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(rank),
    }
    return environment(JAX_COORDINATOR_PORT=str(port), **variables)


def ends(process: Process) -> tuple[int, str, str]:
    """Exit status and what was said, of a process that ends by itself within the heartbeat and a bit."""
    out, err = process.communicate(timeout=HEARTBEAT + SLACK)
    return process.returncode, out, err


@pytest.mark.parametrize("cluster", [None, slurm, open_mpi])
def test_processes_meet_and_wait_for_each_other(cluster: Any, tmp_path: Path) -> None:
    port = free_port()
    if cluster is None:
        # One is silent for longer than the heartbeat: slow, not lost.
        environments = [environment(SLOWNESS=str(HEARTBEAT + 1))] * 2
        arguments = explicit(heartbeat_seconds=HEARTBEAT)
    else:
        environments = [cluster(rank, port) for rank in range(2)]
        arguments: list[dict[str, Any]] = [{}, {}]
    with started(commands("meet", tmp_path, arguments), environments) as processes:
        for rank, process in enumerate(processes):
            said = next_line(process)
            assert (said["rank"], said["count"], said["local"]) == (rank, 2, 2)
            assert said["found"] == ["0", "1"]
            assert "'files counted'" in said["again"]
            assert "once" in said["once_more"]
            assert ends(process) == (0, "", "")


@pytest.mark.parametrize(("scenario", "victim"), [("wait", 1), ("compute", 0)])
def test_a_lost_process_ends_the_other(scenario: str, victim: int, tmp_path: Path) -> None:
    lines = commands(scenario, tmp_path, explicit(heartbeat_seconds=HEARTBEAT))
    with started(lines, [environment(VICTIM=str(victim))] * 2) as processes:
        assert [next_line(process)["rank"] for process in processes] == [0, 1]
        processes[victim].send_signal(signal.SIGKILL)
        status, _, err = ends(processes[1 - victim])
    assert status != 0
    assert "heartbeats" in err if victim else "coordinat" in err
    if victim:
        assert re.search(rf"unhealthy \(stopped sending heartbeats\):\s*{victim}\b", err)


def test_a_process_that_ends_early_ends_the_wait_of_the_other(tmp_path: Path) -> None:
    with started(commands("part", tmp_path, explicit()), [environment()] * 2) as processes:
        first, second = (ends(process) for process in processes)
    assert first[0] == 6
    (line,) = first[2].splitlines()
    assert "process 1 of 2 ended before 'index'" in line
    assert second == (5, "", "")


def test_the_wait_for_others_can_be_interrupted(tmp_path: Path) -> None:
    with started(commands("linger", tmp_path, explicit()), [environment()] * 2) as (busy, waiting):
        assert "process 1 of 2 ended" in next_line(busy)["complaint"]
        waiting.send_signal(signal.SIGINT)
        assert ends(waiting) == (130, "", "")


def test_a_connected_process_can_be_terminated(tmp_path: Path) -> None:
    with started(commands("terminate", tmp_path, explicit(1)), [environment()]) as (process,):
        assert ends(process)[0] == -signal.SIGTERM


def test_nobody_there_or_the_port_taken(tmp_path: Path) -> None:
    alone, unanswered = (explicit(connect_seconds=1)[rank] for rank in range(2))
    with socket.create_server(("0.0.0.0", 0)) as server:
        taken = alone | {"coordinator": f"127.0.0.1:{server.getsockname()[1]}"}
        lines = commands("part", tmp_path, [alone, unanswered, taken])
        with started(lines, [environment()] * 3) as processes:
            finished = [ends(process) for process in processes]
    for (status, _, err), own in zip(finished, (alone, unanswered, taken), strict=True):
        assert status == 6
        (line,) = err.splitlines()
        assert own["coordinator"] in line
        assert "choose another port" in line if own is taken else f"process {own['process_id']} of 2" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"coordinator": "node1"}, "coordinator 'node1'"),
        ({"coordinator": "node1:"}, "coordinator 'node1:'"),
        ({"coordinator": ":1234"}, "coordinator ':1234'"),
        ({"coordinator": "node1:65536"}, "coordinator 'node1:65536'"),
        ({"num_processes": 0}, "num_processes 0: expected at least 1"),
        ({"process_id": -1}, "process_id -1: expected a number from 0"),
        ({"process_id": 2, "num_processes": 2}, "process_id 2 of num_processes 2: .* from 0 to 1"),
        ({"heartbeat_seconds": 0}, "heartbeat_seconds 0: expected at least 1"),
        ({"connect_seconds": 0}, "connect_seconds 0: expected at least 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(JnstError, match=said):
        connect(**arguments)


def test_missing_arguments(tmp_path: Path) -> None:
    cases = (
        ({}, {}, ("coordinator, num_processes, process_id not given", "srun", *CLUSTERS)),
        ({"coordinator": "node1:1"}, {}, ("num_processes, process_id not given", "srun", *CLUSTERS)),
        ({}, {"JAX_COORDINATOR_ADDRESS": "node1:1"}, ("num_processes, process_id not given", "srun", *CLUSTERS)),
        ({"num_processes": 2, "process_id": 0}, {}, ("coordinator not given", "HOST:PORT", *CLUSTERS)),
        ({}, {"OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:1"}, ("OMPI_COMM_WORLD_SIZE", "HOST:PORT")),
    )
    (command,) = commands("", tmp_path, [{"cases": [case[:2] for case in cases]}])
    with started([command], [environment()]) as (process,):
        for _, _, said in cases:
            message = next_line(process)["complaint"]
            assert message.startswith("JnstError: ")
            assert [part for part in said if part not in message] == []
        assert ends(process) == (0, "", "")


def test_connecting_comes_before_computing() -> None:
    jax.local_devices()
    with pytest.raises(JnstError, match="before any JAX"):
        connect("127.0.0.1:1", 1, 0)


def test_a_barrier_needs_a_connection() -> None:
    with pytest.raises(JnstError, match="barrier 'index': call connect first"):
        barrier("index")
