# SPDX-License-Identifier: GPL-2.0-or-later
"""TPMs behind sockets, ours or swtpm's, and a test program on each."""

import concurrent.futures
import json
import os
import pathlib
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from listening import wait_until_listening  # noqa: E402

# As swtpm's are when it makes them: without persistent keys. TPM2_Startup, TPM2_Clear by the platform.
BLANK = ("80010000000c000001440000", "80020000001b000001264000000c00000009400000090000000000")


def run_one(setting, test, tcti, log):
    """The test's exit status."""
    folder = setting.tss / "build"
    environment = {**os.environ, "TPM20TEST_TCTI": tcti, "srcdir": str(setting.tss / "tree"), "G_MESSAGES_DEBUG": "all",
                   "TCTI_PCAP_FILE": f"{log}.pcap"}
    with open(log, "w", encoding="utf-8") as output:
        try:
            return subprocess.run([folder / test], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                  stderr=subprocess.STDOUT, timeout=setting.patience, check=False).returncode
        except subprocess.TimeoutExpired:
            return "timed out"


class Sockets:
    """tctis: one for each TPM."""

    def __init__(self, setting):
        self.setting, self.tctis = setting, []

    def run(self, test, logs):
        with concurrent.futures.ThreadPoolExecutor(len(logs)) as pool:
            return list(pool.map(lambda tcti, log: run_one(self.setting, test, tcti, log), self.tctis, logs))


class Banyan(Sockets):
    """One server with all instances; its clients may do what swtpm's may."""

    def __init__(self, setting, folder):
        super().__init__(setting)
        mssim = setting.against == "mssim"
        self.log = open(folder / "server.log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [setting.build / "bin/banyan", "vtpm", "serve", "--json", "--power-on", "--drtm-by-client", "--instances",
             str(setting.instances), "--dir", folder / "sockets"] + (["--mssim"] if mssim else []),
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError((folder / "server.log").read_text(encoding="utf-8"))
        for one in json.loads(line)["instances"]:
            self.tctis.append(f"mssim:path={one['mssim']['command']}" if mssim else f"swtpm:path={one['data']}")
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(one["data"])
                for command in BLANK:
                    client.sendall(bytes.fromhex(command))
                    if client.recv(4096)[6:10] != bytes(4):
                        raise RuntimeError(f"{command} was refused")

    def end(self):
        self.process.terminate()
        status = self.process.wait()
        self.process.stdout.close()
        self.log.close()
        if status != 0:
            raise RuntimeError(f"the server ended with status {status}")


class Swtpm(Sockets):
    """A process for each."""

    def __init__(self, setting, folder):
        super().__init__(setting)
        self.processes = []
        for i in range(setting.instances):
            state, data = folder / f"state{i}", folder / f"tpm{i}"
            state.mkdir()
            self.processes.append(subprocess.Popen(
                ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server", f"type=unixio,path={data}",
                 "--ctrl", f"type=unixio,path={data}.ctrl", "--flags", "not-need-init", "--locality",
                 "allow-set-locality"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            self.tctis.append(f"swtpm:path={data}")
            wait_until_listening(self.processes[-1], setting.patience, data, f"{data}.ctrl")

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()
