# SPDX-License-Identifier: GPL-2.0-or-later
"""TPMs as /dev/tpmN of a plain q35 machine with an unmodified Debian kernel, and a test program on each.

Each test gets machines that were just switched on. qboot is their firmware: SeaBIOS gives the platform hierarchy of the
TPM that it measures into a password which nobody knows, as firmware should, and tests want that hierarchy.
"""

import concurrent.futures
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from listening import wait_until_listening  # noqa: E402
from probe import Probe, ProbeFailed, vtpm_devices  # noqa: E402


class Machine:
    """One virtual machine and its TPMs, each to be found by a certain driver of Linux."""

    def __init__(self, setting, qemu, devices, options, drivers, log):
        self.drivers, self.log = sorted(drivers), log
        # What qboot shows goes to the first serial line; edd=off: Linux asks it nothing that it would show.
        firmware = [] if setting.seabios else ["-bios", "qboot.rom"]
        self.probe = Probe(qemu, setting.build, devices, options=[*firmware, "-no-reboot", *options],
                           initrd=setting.initrd, linux="edd=off", limit_s=setting.patience)

    def run(self, test, logs):
        """Exit status of the test on each TPM."""
        try:
            self.probe.wait_ready()
            self.probe.send(pathlib.Path(test).name)
            statuses, drivers = [], []
            while (line := self.probe.answer()) != "end":
                _, driver, status, size = line.split()
                logs[len(statuses)].write_bytes(self.probe.port.read(int(size)))
                statuses.append(int(status))
                drivers.append(driver)
            return statuses if sorted(drivers) == self.drivers else [f"Linux has {drivers}"] * len(logs)
        except TimeoutError:
            return ["timed out"] * len(logs)
        except (ProbeFailed, OSError, ValueError, IndexError) as error:
            return [f"the guest fell: {error}"] * len(logs)

    def end(self):
        for name in ("console.log", "qemu.log"):
            shutil.copy(self.probe.dir / name, f"{self.log}.{name}")
        self.probe.close()


class Banyan:
    """One machine with all instances."""

    def __init__(self, setting, folder):
        first = ",interface=crb" if setting.crb else ""
        self.machine = Machine(setting, setting.build / "bin/qemu-system-x86_64",
                               vtpm_devices(setting.build, setting.instances, first), [],
                               ["tpm_crb" if setting.crb else "tpm_tis"] + ["tpm_tis"] * (setting.instances - 1), folder / "vm")

    def run(self, test, logs):
        statuses = self.machine.run(test, logs)
        try:
            instances = self.machine.probe.report()["instances"]
        except (ProbeFailed, OSError, ValueError) as error:
            return [f"{status}, and QEMU fell: {error}" for status in statuses]
        bad = [f"instance {number} is {one['state']} after {one['restarts']} restarts"
               for number, one in enumerate(instances) if (one["state"], one["restarts"]) != ("ready", 0)]
        return ["; ".join([str(status), *bad]) for status in statuses] if bad else statuses

    def end(self):
        self.machine.end()


class Swtpm:
    """A machine with one TPM each: QEMU knows no second. Ours serves where the stock one is not built: its TPM emulator
    and the devices before it are upstream's."""

    def __init__(self, setting, folder):
        self.processes, self.machines = [], []
        try:
            self.start(setting, folder)
        except Exception:
            self.end()
            raise

    def start(self, setting, folder):
        stock, ours = setting.build / "bin/qemu-stock", setting.build / "bin/qemu-system-x86_64"
        interface = "crb" if setting.crb else "tis"
        for i in range(setting.instances):
            state, control = folder / f"state{i}", folder / f"control{i}"
            state.mkdir()
            self.processes.append(subprocess.Popen(
                ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={control}"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            wait_until_listening(self.processes[-1], setting.patience, control)
            self.machines.append(Machine(
                setting, stock if stock.exists() else ours, [f"tpm-{interface},tpmdev=swtpm"],
                ["-chardev", f"socket,id=swtpm,path={control}", "-tpmdev", "emulator,id=swtpm,chardev=swtpm"],
                [f"tpm_{interface}"], folder / f"vm{i}"))

    def run(self, test, logs):
        with concurrent.futures.ThreadPoolExecutor(len(logs)) as pool:
            return [statuses[0] for statuses in pool.map(lambda machine, log: machine.run(test, [log]), self.machines, logs)]

    def end(self):
        for machine in self.machines:
            machine.end()
        for process in self.processes:
            process.kill()
            process.wait()
