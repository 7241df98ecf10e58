#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: faults_test.py BUILD [TEST...]

What breaks while a machine runs: QEMU, the vTPM's processes, the user's patience. Nothing is left running, logs stay.
"""

import os
import pathlib
import shutil
import signal

from machine import MachineTest, TOP, descendants, main, vm

TWO = TOP + vm("alpha", "cloud-amd64") + vm("beta", "cloud-amd64")


class Faults(MachineTest):
    def begin(self):
        """A run whose VMs have launched: process, and what runs below it."""
        process = self.start(self.file(TWO))
        self.wait_for(process, "beta: launched")
        below = descendants(process.pid)
        self.assertTrue(any(name.startswith("qemu") for _, name in below), below)
        return process, below

    def test_qemu_dies(self):
        process, below = self.begin()
        os.kill(next(pid for pid, name in below if name.startswith("qemu")), signal.SIGKILL)
        self.expect(self.finish(process), 3, "QEMU ended with signal 9 (Killed) in phase boot")
        self.expect_gone([pid for pid, _ in below])
        self.assertEqual({one["verdict"] for one in self.report()["vms"]}, {"failed"})
        self.assertTrue((self.evidence / "qemu.log").exists())

    def test_every_process_of_the_vtpm_dies(self):
        process, below = self.begin()
        engines = [pid for pid, name in below if name.startswith(("banyan-vtpm", "vtpm-"))]
        self.assertTrue(engines, below)
        for pid in engines:
            os.kill(pid, signal.SIGKILL)
        # Evidence cannot come any more; the run says so and ends.
        self.assertIn(self.finish(process), (1, 3, 4, 5), self.output)
        self.assertNotIn("attested", {one["verdict"] for one in self.report()["vms"]})
        self.expect_gone([pid for pid, _ in below])

    def test_one_worker_dies(self):
        process, below = self.begin()
        os.kill([pid for pid, name in below if name == "vtpm-worker"][-1], signal.SIGKILL)
        # Either it comes back with the state that it had, or its VM has no valid evidence. Nobody else notices.
        self.assertIn(self.finish(process), (0, 1, 4, 5), self.output)
        self.assertIn("attested", [one["verdict"] for one in self.report()["vms"]], self.output)
        self.expect_gone([pid for pid, _ in below])

    def test_the_user_interrupts(self):
        for sent in (signal.SIGINT, signal.SIGTERM):
            process, below = self.begin()
            process.send_signal(sent)
            self.expect(self.finish(process), 130)
            self.expect_gone([pid for pid, _ in below])

    def test_the_tool_is_killed(self):
        before = set(pathlib.Path("/tmp").glob("banyan-run-*"))
        process, below = self.begin()
        process.kill()
        process.communicate()
        self.expect_gone([pid for pid, _ in below])
        for folder in set(pathlib.Path("/tmp").glob("banyan-run-*")) - before:
            if (folder / "evidence").resolve() == self.evidence.resolve():
                shutil.rmtree(folder)


if __name__ == "__main__":
    main()
