# SPDX-License-Identifier: GPL-2.0-or-later
"""A plain q35 machine, no hypervisor and no launch, with a Debian kernel and guest/tpmprobe as its only program."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time


class ProbeFailed(Exception):
    pass


class Probe:
    """Commands of guest/tpmprobe, a line each; QMP beside them."""

    def __init__(self, qemu, build, devices, cores=2, options=(), before=(), limit_s=120, initrd=None, linux="",
                 kernel="cloud-amd64"):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="banyan-probe-"))
        self.limit_s = limit_s
        folders = firmware_folders(build)
        command = [*before, qemu, *[word for folder in folders for word in ("-L", folder)],
                   "-M", "q35", "-accel", "tcg", "-cpu", "EPYC,-hypervisor", "-smp", str(cores), "-m", "512M",
                   "-nodefaults", "-no-user-config", "-display", "none",
                   "-kernel", build / "images" / kernel / "vmlinuz",
                   "-initrd", initrd or build / "share/banyan/tpmprobe.img",
                   "-append", f"console=ttyS1 panic=-1 tsc=reliable {linux}",
                   "-qmp", f"unix:{self.dir}/qmp,server=on,wait=off",
                   "-chardev", f"socket,id=probe,path={self.dir}/probe,server=on,wait=off",
                   "-device", "isa-serial,index=0,chardev=probe",
                   "-chardev", f"file,id=console,path={self.dir}/console.log", "-device", "isa-serial,index=1,chardev=console"]
        for device in devices:
            command += ["-device", device]
        with open(self.dir / "qemu.log", "wb") as log:
            self.process = subprocess.Popen([str(word) for word in [*command, *options]], cwd=self.dir,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.port = self.connect("probe")
            self.qmp = self.connect("qmp")
            self.qmp.readline()
            self.ask_qemu("qmp_capabilities")
        except (ProbeFailed, OSError, ValueError) as error: # it went away before or while it answered
            self.process.wait(self.limit_s)
            text = self.text("qemu.log")
            self.close()
            raise ProbeFailed(f"QEMU ended: {text}") from error

    def text(self, name):
        file = self.dir / name
        return file.read_text(errors="replace") if file.exists() else ""

    def connect(self, name):
        end = time.monotonic() + self.limit_s
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket(socket.AF_UNIX) as s:
                try:
                    s.connect(str(self.dir / name))
                    s.settimeout(self.limit_s)
                    return s.makefile("rwb")  # the file keeps the connection
                except (FileNotFoundError, ConnectionRefusedError):
                    time.sleep(0.02)
        raise ProbeFailed(f"QEMU has no {name} socket")

    def wait_ready(self):
        line = self.port.readline().decode(errors="replace").strip()
        if line != "ready":
            raise ProbeFailed(f"the guest says {line!r}; its console ends:\n{self.text('console.log')[-800:]}\n"
                              f"{self.text('qemu.log')[-800:]}")

    def send(self, *words):
        self.port.write(" ".join(str(word) for word in words).encode() + b"\n")
        self.port.flush()

    def answer(self):
        line = self.port.readline().decode().rstrip("\n")
        if line.startswith("error") or not line:
            raise ProbeFailed(f"the guest answers {line!r}")
        return line

    def ask(self, *words):
        self.send(*words)
        return self.answer()

    def ask_qemu(self, command, **arguments):
        self.qmp.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.qmp.flush()
        while True:
            answer = json.loads(self.qmp.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise ProbeFailed(f"{command}: {answer['error']['desc']}")

    def report(self, path="/machine/peripheral/vtpm"):
        return json.loads(self.ask_qemu("qom-get", path=path, property="report"))

    def power_off(self):
        """QEMU's exit status."""
        self.send("off")
        return self.process.wait(self.limit_s)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def firmware_folders(build):
    listed = build / "qemu/firmware-dirs"  # a build of QEMU leaves it
    return listed.read_text().split() if listed.exists() else ["/usr/share/seabios", "/usr/share/qemu"]


def vtpm_devices(build, instances, first="", window=""):
    """The chip and a window for each further instance."""
    engine = os.path.abspath(build / "bin/banyan-vtpm-engine")
    return [f"banyan-vtpm,id=vtpm,engine={engine},instances={instances}{first}"] + [
        f"banyan-vtpm-window,instance={i}{window}" for i in range(1, instances)]
