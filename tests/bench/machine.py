# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain boots on a given QEMU, without any device of ours: the peer's side, and ours at rest."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

COMMAND_LINE = "console=hvc0 reboot=a panic=-1"


class BootFailed(Exception):
    pass


class PlainBoot:
    """One QEMU, one Debian kernel, up to the agent's `ready` on the evidence port."""

    def __init__(self, qemu, firmware, kernel, initrd, memory="512M", extra=(), options="", core=None, limit_s=600):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="banyan-bench-"))
        self.limit = time.monotonic() + limit_s
        args = [str(qemu)]
        for folder in firmware:
            args += ["-L", folder]
        args += [
            "-M", "q35,smm=off", "-accel", "tcg", "-cpu", "EPYC,-hypervisor", "-smp", "1", "-m", memory,
            "-nodefaults", "-display", "none", "-no-reboot",
            "-qmp", f"unix:{self.dir}/qmp,server=on,wait=off",
            "-kernel", str(kernel), "-initrd", str(initrd), "-append", f"{COMMAND_LINE} {options}",
            "-device", "virtio-serial-pci",
            "-chardev", f"file,id=con,path={self.dir}/console.log", "-device", "virtconsole,chardev=con,nr=0",
            "-chardev", f"socket,id=ev,path={self.dir}/evidence,server=on,wait=off",
            "-device", "virtserialport,chardev=ev,name=banyan.evidence,nr=1",
        ]
        args += list(extra)
        self.log = open(self.dir / "qemu.log", "wb")
        self.child = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                      start_new_session=True)
        if core is not None:
            os.sched_setaffinity(self.child.pid, {core}) # and its threads, which come later

    def connect(self, name):
        while time.monotonic() < self.limit:
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(str(self.dir / name))
                s.settimeout(1)
                return s
            except (FileNotFoundError, ConnectionRefusedError):
                s.close()
                if self.child.poll() is not None:
                    raise BootFailed((self.dir / "qemu.log").read_text(errors="replace"))
                time.sleep(0.02)
        raise BootFailed(f"no {name} socket")

    def wait_ready(self):
        self.port = self.connect("evidence")
        seen = b""
        while b"ready\n" not in seen:
            if time.monotonic() > self.limit or self.child.poll() is not None:
                tail = (self.dir / "console.log").read_bytes()[-600:].decode(errors="replace")
                raise BootFailed(f"the guest never said ready; its console ends:\n{tail}")
            try:
                seen += self.port.recv(4096)
            except TimeoutError:
                pass

    def qmp(self, *commands):
        s = self.connect("qmp")
        s.settimeout(60)
        f = s.makefile("rwb")
        f.readline()
        answers = []
        for command in [{"execute": "qmp_capabilities"}, *commands]:
            f.write(json.dumps(command).encode() + b"\n")
            f.flush()
            while True:
                answer = json.loads(f.readline())
                if "return" in answer or "error" in answer:
                    break
            answers.append(answer)
        s.close()
        return answers[1:]

    def jit(self):
        """`info jit` of the monitor, as numbers."""
        text = self.qmp({"execute": "human-monitor-command", "arguments": {"command-line": "info jit"}})[0]["return"]
        values = {}
        for line in text.splitlines():
            words = line.rsplit(None, 1)
            if len(words) == 2:
                number = words[1].split("/")[0]
                if number.isdigit():
                    values[words[0].strip()] = int(number)
        return values

    def end(self):
        """Ends QEMU; user CPU seconds of its whole life."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        _, _, usage = os.wait4(self.child.pid, 0)
        self.child.returncode = 0
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        return usage.ru_utime

    def kill(self):
        if self.child.returncode is None:
            self.child.kill()
            try:
                os.wait4(self.child.pid, 0)
            except ChildProcessError:
                pass
        shutil.rmtree(self.dir, ignore_errors=True)
