#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: run.py TSS BUILD socket|mssim|swtpm INSTANCES [TEST...]

scripts/tss-tests' second half: tpm2-tss' integration tests, each on INSTANCES fresh TPMs at once. A test passes if it
passes on every one.
"""

import concurrent.futures
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

PATIENCE = 300  # seconds for one test
SKIP = 77

TSS, BUILD = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
AGAINST, INSTANCES = sys.argv[3], int(sys.argv[4])
ONLY = sys.argv[5:]


# As swtpm's are when it makes them: without persistent keys. TPM2_Startup, TPM2_Clear by the platform.
BLANK = ("80010000000c000001440000", "80020000001b000001264000000c00000009400000090000000000")


class Banyan:
    """One server with all instances; its clients may do what swtpm's may."""

    def __init__(self, folder):
        self.log = open(folder / "server.log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [BUILD / "bin/banyan", "vtpm", "serve", "--json", "--power-on", "--drtm-by-client", "--instances", str(INSTANCES), "--dir",
             folder / "sockets"] + (["--mssim"] if AGAINST == "mssim" else []),
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError((folder / "server.log").read_text(encoding="utf-8"))
        self.tctis = []
        for one in json.loads(line)["instances"]:
            self.tctis.append(f"mssim:path={one['mssim']['command']}" if AGAINST == "mssim"
                              else f"swtpm:path={one['data']}")
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


class Swtpm:
    """A process for each."""

    def __init__(self, folder):
        self.processes, self.tctis = [], []
        for i in range(INSTANCES):
            state, data = folder / f"state{i}", folder / f"tpm{i}"
            state.mkdir()
            self.processes.append(subprocess.Popen(
                ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server", f"type=unixio,path={data}",
                 "--ctrl", f"type=unixio,path={data}.ctrl", "--flags", "not-need-init", "--locality",
                 "allow-set-locality"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            self.tctis.append(f"swtpm:path={data}")
            until = time.monotonic() + PATIENCE
            while not (data.exists() and pathlib.Path(f"{data}.ctrl").exists()):
                if time.monotonic() > until or self.processes[-1].poll() is not None:
                    raise RuntimeError("swtpm did not start")
                time.sleep(0.01)

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()


def run_one(test, tcti, log):
    """The test's exit status."""
    folder = TSS / "build"
    environment = {**os.environ, "TPM20TEST_TCTI": tcti, "srcdir": str(TSS / "tree"), "G_MESSAGES_DEBUG": "all",
                   "TCTI_PCAP_FILE": f"{log}.pcap"}
    with open(log, "w", encoding="utf-8") as output:
        try:
            return subprocess.run([folder / test], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                                  stdout=output, stderr=subprocess.STDOUT, timeout=PATIENCE, check=False).returncode
        except subprocess.TimeoutExpired:
            return "timed out"


def main():
    # tcti-* are programs that talk to no TPM; the rest of what `make check` calls TESTS goes through the TCTI.
    tests = [test for test in (TSS / "build/tests").read_text(encoding="utf-8").split()
             if test.endswith(".int") and (not ONLY or any(word in test for word in ONLY))]
    kept = pathlib.Path(tempfile.mkdtemp(prefix="banyan-tss-tests-"))
    counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(INSTANCES) as pool:
        for test in tests:
            name = pathlib.Path(test).name
            folder = kept / name
            folder.mkdir()
            peer = (Swtpm if AGAINST == "swtpm" else Banyan)(folder)
            try:
                logs = [folder / f"{i}.log" for i in range(INSTANCES)]
                statuses = list(pool.map(run_one, [test] * INSTANCES, peer.tctis, logs))
            finally:
                peer.end()
            verdict = "PASS" if all(one == 0 for one in statuses) else (
                "SKIP" if all(one in (0, SKIP) for one in statuses) else "FAIL")
            counts[verdict] += 1
            print(f"{verdict} {name}" + (f" {statuses}, logs in {folder}" if verdict == "FAIL" else ""), flush=True)
            if verdict != "FAIL":
                shutil.rmtree(folder)
    print(f"{AGAINST}, {INSTANCES} at once: {len(tests)} tests, {counts['PASS']} pass, {counts['SKIP']} skip, "
          f"{counts['FAIL']} fail, {time.monotonic() - begun:.0f} s")
    if counts["FAIL"] == 0:
        shutil.rmtree(kept)
    sys.exit(1 if counts["FAIL"] or not tests else 0)


if __name__ == "__main__":
    main()
