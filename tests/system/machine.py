# SPDX-License-Identifier: GPL-2.0-or-later
"""What the system tests share: a scratch folder with a platform, machine files, runs of bin/banyan and their reports.
A test script is called with the build folder; without a QEMU in it the script is skipped."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

SKIPPED = 77
COMMAND_LINE = "console=hvc0 tsc_early_khz=1000000 reboot=a panic=-1 no_ipi_broadcast=1"
TOP = """schema = 1
[machine]
accept_insecure = ["dma-drain"]
"""

BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
SOURCE = pathlib.Path(__file__).resolve().parents[2]
BANYAN = BUILD / "bin/banyan"


def vm(name, kernel="amd64", **keys):
    """A [[vm]] section of a flavour or a path."""
    lines = ["[[vm]]", f'name = "{name}"', f'kernel = "{kernel if "/" in kernel else "debian:" + kernel}"']
    return "\n".join(lines + [f"{key} = {json.dumps(value)}" for key, value in keys.items()]) + "\n"


def processes():
    """Processes by id: parent, name, state."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            name, rest = text[text.index("(") + 1:].rsplit(")", 1)
            state, parent = rest.split()[:2]
            found[int(entry.name)] = (int(parent), name, state)
    return found


def descendants(pid):
    """Processes below pid, nearest first: id and name."""
    everything = processes()
    found, level = [], [pid]
    while level:
        level = [child for child, (parent, _, _) in everything.items() if parent in level]
        found += [(child, everything[child][1]) for child in level]
    return found


def running(pid):
    return processes().get(pid, (0, "", "Z"))[2] != "Z"


class MachineTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        (BUILD / "system-tests").mkdir(exist_ok=True)
        cls.shared = pathlib.Path(tempfile.mkdtemp(prefix=f"{cls.__name__}-", dir=BUILD / "system-tests"))
        cls.keep = False

    @classmethod
    def tearDownClass(cls):
        if cls.keep:
            print(f"kept: {cls.shared}", file=sys.stderr)
        else:
            shutil.rmtree(cls.shared)

    def setUp(self):
        self.dir = self.shared / self.id().rsplit(".", 1)[1]
        self.dir.mkdir()
        (self.dir / "tmp").mkdir()
        self.evidence = self.dir / "evidence"
        self.json = self.dir / "run.json"
        self.data = self.shared / "data"  # with the platform, shared by the tests of a class

    def tearDown(self):
        outcome = self._outcome.result
        if any(test is self for test, _ in outcome.failures + outcome.errors):
            type(self).keep = True
        else:
            shutil.rmtree(self.dir)

    def file(self, text, name="machine.toml"):
        (self.dir / name).write_text(text, encoding="utf-8")
        return self.dir / name

    def start(self, machine, *options):
        return subprocess.Popen(
            [BANYAN, "run", machine, "--json", self.json, "--evidence", self.evidence, *options], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.dir,
            env={**os.environ, "XDG_DATA_HOME": str(self.data), "TMPDIR": "/tmp"})

    def finish(self, process):
        """Exit status of a run; output in table and messages."""
        try:
            self.table, self.messages = process.communicate(timeout=600)
        finally:
            if process.poll() is None:
                process.kill()
        self.output = self.table + self.messages
        return process.returncode

    def run_machine(self, machine, *options):
        return self.finish(self.start(machine, *options))

    def expect(self, seen, expected, *texts):
        self.assertEqual(seen, expected, self.output)
        for text in texts:
            self.assertIn(text, self.output)

    def wait_for(self, process, text):
        """Reads progress until a step says so."""
        seen = []
        for line in process.stderr:
            seen.append(line)
            if text in line:
                return
        self.fail(f"the run ended without '{text}':\n" + "".join(seen))

    def report(self):
        with open(self.json, encoding="utf-8") as file:
            return json.load(file)

    def expect_attested(self, report, ended="poweroff"):
        for one in report["vms"]:
            self.assertEqual(one["verdict"], "attested", one["reason"])
            self.assertEqual(one["exits"], {"running": 0, "final": 1}, one["name"])
            self.assertEqual(one["ended"], ended, one["name"])

    def expect_gone(self, pids, within=10):
        deadline = time.monotonic() + within
        left = pids
        while left and time.monotonic() < deadline:
            left = [pid for pid in left if running(pid)]
            time.sleep(0.05)
        self.assertEqual(left, [], "left running")


def main():
    if not (BUILD / "bin/qemu-system-x86_64").exists():
        print(f"SKIP: there is no {BUILD}/bin/qemu-system-x86_64 (cmake --build --preset full)")
        sys.exit(SKIPPED)
    unittest.main(module="__main__", argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
