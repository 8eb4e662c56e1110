"""Real witness processes for the tests."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

from weftos.chain.signing.note_keys import VerifierKey
from weftos.witness.client import WitnessClient

#: Runs a witness; with a point to die at, it kills itself there: between what is on the disk and the answer.
PROGRAM = """
import logging, os, signal, sys
from weftos.witness import server
from weftos.witness.server import WitnessBoot, run_witness
logging.basicConfig(level=logging.INFO)
folder, name, uid, group, ready, die = sys.argv[1:]
if die == "persisted":
    from weftos.witness.folder import WitnessFolder
    store = WitnessFolder.store
    def deadly(self, log):
        store(self, log)
        if log.head:
            os.kill(os.getpid(), signal.SIGKILL)
    WitnessFolder.store = deadly
uid = int(uid) if uid else None
sys.exit(run_witness(WitnessBoot(
    name=name, folder=folder + "/memory", keys_folder=folder + "/keys", socket_path=folder + "/s",
    uid=uid, gid=uid, socket_group=int(group) if group else None, ready_fd=int(ready), parent_os_pid=os.getppid(),
)))
"""


class WitnessProcess:
    """One witness with its folder; start, kill and start it again."""

    def __init__(self, folder: Path, name: str = "witness/one", *, uid: str = "", group: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.name, self.uid, self.group = folder, name, uid, group
        self.process: subprocess.Popen | None = None
        self.client = WitnessClient(str(folder / "s"), timeout_s=20)
        self.log = ""

    def start(self, die: str = "") -> WitnessProcess:
        ready, told = os.pipe()
        arguments = [str(self.folder), self.name, self.uid, self.group, str(told), die]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            pass_fds=[told],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        os.close(told)
        with open(ready, "rb") as file:
            line = file.readline() if select.select([file], [], [], 30)[0] else b""
        self.key = VerifierKey.parse(line.decode().strip()) if line else None
        return self

    def wait(self) -> int:
        assert self.process is not None
        self.log = self.process.communicate(timeout=30)[1].decode()
        code, self.process = self.process.returncode, None
        return code

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.wait()
