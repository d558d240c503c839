"""A real PostgreSQL and a real SLURM on loopback, of Debian's packages, and a Ray cluster, for the tests that need them."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a server that lives as long as the tests; its user is called harness, with a password."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    # The server refuses to run as root, and the folders of pytest are root's own.
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    prefix = ["runuser", "-u", user, "--"] if os.getuid() == 0 else []
    folder = Path(
        subprocess.run(
            [*prefix, "mktemp", "-d"], check=True, capture_output=True, text=True
        ).stdout.strip()
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = folder / "password"
    subprocess.run([*prefix, "sh", "-c", f"printf 's3cret' > {given}"], check=True)
    initdb = [
        str(programs / "initdb"),
        "-D",
        str(folder / "data"),
        "-U",
        "harness",
        "--auth=scram-sha-256",
        f"--pwfile={given}",
    ]
    subprocess.run([*prefix, *initdb], check=True, capture_output=True)
    control = [
        *prefix,
        str(programs / "pg_ctl"),
        "-D",
        str(folder / "data"),
        "-w",
        "-l",
        str(folder / "log"),
    ]
    # Without fsync: nothing here cuts the server's power, and its disk is not what is tested.
    options = (
        f"-p {port} -c fsync=off -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    )
    subprocess.run([*control, "-o", options, "start"], check=True, capture_output=True)
    try:
        yield f"postgresql+psycopg://harness:s3cret@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(server: str) -> Iterator[str]:
    """The address of an empty database."""
    import psycopg

    name = f"harness_{os.urandom(4).hex()}"
    plain = server.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield server.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster: a head that runs nothing, and two nodes of two cores."""
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        cluster.add_node(num_cpus=2)
        cluster.add_node(num_cpus=2)
        yield cluster
    finally:
        cluster.shutdown()


SLURM = """
ClusterName=harness
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="session")
def slurm() -> Iterator[Path]:
    """The configuration of a SLURM of one node, without accounting, that lives as long as the tests (``SLURM_CONF``)."""
    missing = [
        name
        for name in ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
        if shutil.which(name) is None
    ]
    if missing or os.getuid() != 0:
        pytest.skip(
            f"SLURM is not installed: no {', '.join(missing)}"
            if missing
            else "SLURM's daemons are started by root only"
        )
    pytest.importorskip("submitit", reason="submitit is not installed")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)  # munged refuses a socket that others cannot reach
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = (one.getsockname()[1], other.getsockname()[1])
    configuration = folder / "slurm.conf"
    configuration.write_text(
        SLURM.format(host=socket.gethostname(), ports=ports, folder=folder), encoding="utf-8"
    )
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    munge = [
        "munged",
        "--force",
        f"--key-file={key}",
        f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munged.pid",
    ]
    munge += [f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed"]
    try:
        for command in (munge, ["slurmctld", "-c"], ["slurmd"]):
            subprocess.run(command, env=environment, check=True, capture_output=True)
        end = time.monotonic() + 60
        while not (state := _state_of_node(environment)).startswith(("idle", "mix", "alloc")):
            assert time.monotonic() < end, (
                f"the node is {state!r}\n{(folder / 'slurmctld.log').read_text(encoding='utf-8')}"
            )
            time.sleep(0.5)
        yield configuration
    finally:
        subprocess.run(
            ["scancel", "--user=root"], env=environment, check=False, capture_output=True
        )
        for name in ("slurmd", "slurmctld", "munged"):
            _end(folder / f"{name}.pid")
        shutil.rmtree(folder, ignore_errors=True)


def _state_of_node(environment: dict[str, str]) -> str:
    said = subprocess.run(
        ["sinfo", "--noheader", "--format=%t"],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    return said.stdout.strip()


def _end(pid_file: Path) -> None:
    """End a daemon by its own number, and wait for it."""
    if not pid_file.is_file():
        return
    pid = int(pid_file.read_text(encoding="ascii"))
    end = time.monotonic() + 30
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while time.monotonic() < end:
            os.kill(pid, 0)
            time.sleep(0.1)
