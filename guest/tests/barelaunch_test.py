#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux launched by SKINIT on the bare core of a plain q35 machine with a vTPM: no hypervisor, no VM.

barelaunch_test.py QEMU ENGINE BANYAN SHARE KERNEL FLAVOUR

A pass shows that SKINIT measures the loader's bytes and enters it, that the loader measures what it was given and boots
Debian's kernel, that the log reaches Linux, and that PCR 17 follows from the files alone. Then, with a changed byte, that
PCR 17 is another; and that the loader does not boot what it cannot. A FIFO and a CRB take turns.

Exit status: 0 passed, 1 failed, 77 skipped (prints why).
"""
import hashlib
import io
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time

COMMAND_LINE = b"console=hvc0 tsc_early_khz=1000000 reboot=a panic=-1 quiet"
NONCE = "00112233445566778899aabbccddeeff"
TIMEOUT = 120
BANKS = ("sha1", "sha256", "sha384")


class Failed(Exception):
    pass


def expect(condition, *what):
    if not condition:
        raise Failed(" ".join(str(word) for word in what))


def firmware_arguments(qemu):
    folders = pathlib.Path(qemu).absolute().parent.parent / "qemu/firmware-dirs"
    return [word for folder in (folders.read_text().split() if folders.exists() else []) for word in ("-L", folder)]


class Machine:
    """One start: modules are the bytes that barelaunch is given."""

    def __init__(self, qemu, engine, platform, share, interface, modules):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="banyan-bare-"))
        for name, content in modules.items():
            (self.dir / name).write_bytes(content)
        shutil.copy(share / "barelaunch.elf", self.dir)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.dir / "agent.sock"))
        listener.listen()
        command = [os.path.abspath(qemu), *firmware_arguments(qemu), "-M", "q35,smm=off", "-m", "512M",
                   "-cpu", "EPYC,-hypervisor,+invtsc,+skinit", "-accel", "tcg", "-nodefaults", "-no-user-config",
                   "-display", "none", "-no-reboot", "-debugcon", "file:debug.log",
                   "-device", f"banyan-vtpm,engine={os.path.abspath(engine)},platform={platform},interface={interface}",
                   "-device", "banyan-domains",
                   "-kernel", "barelaunch.elf", "-initrd", ",".join(f"{name} {name}" for name in modules),
                   "-device", "virtio-serial-pci", "-chardev", "file,id=con,path=console.log",
                   "-device", "virtconsole,chardev=con", "-chardev", "socket,id=agent,path=agent.sock",
                   "-device", "virtserialport,name=banyan.evidence,chardev=agent"]
        with open(self.dir / "qemu.log", "w") as log:
            self.process = subprocess.Popen(command, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        listener.settimeout(20)
        try:
            self.agent, _ = listener.accept()
        except OSError as error:
            self.close()
            raise Failed(f"QEMU did not start: {self.text('qemu.log')}") from error
        self.agent.settimeout(TIMEOUT)
        self.stream = self.agent.makefile("rwb")

    def text(self, name):
        file = self.dir / name
        return file.read_text(errors="replace") if file.exists() else ""

    def line(self):
        return self.stream.readline().decode().rstrip("\n")

    def say(self, text):
        self.stream.write(text.encode() + b"\n")
        self.stream.flush()

    def ended(self):
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise Failed("the machine did not end") from error

    def close(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close()
        if kind is None:
            shutil.rmtree(self.dir)
        else:
            print(f"kept: {self.dir}")


def predicted(bank, modules):
    def digest(data):
        return hashlib.new(bank, data).digest()

    measured = struct.unpack_from("<H", modules["slb"], 2)[0]
    value = bytes(len(digest(b"")))
    for item in (modules["slb"][:measured], modules["kernel"], modules["initrd"], modules["command-line"]):
        value = digest(value + digest(item))
    return value


def events(log):
    """(PCR, type, {bank: digest}, text) of a crypto-agile log."""
    at = 32 + struct.unpack_from("<I", log, 28)[0]
    sizes = {4: 20, 0xB: 32, 0xC: 48}
    names = {4: "sha1", 0xB: "sha256", 0xC: "sha384"}
    while at < len(log):
        pcr, kind, count = struct.unpack_from("<III", log, at)
        at += 12
        digests = {}
        for _ in range(count):
            algorithm, = struct.unpack_from("<H", log, at)
            digests[names[algorithm]] = log[at + 2:at + 2 + sizes[algorithm]]
            at += 2 + sizes[algorithm]
        size, = struct.unpack_from("<I", log, at)
        yield pcr, kind, digests, log[at + 4:at + 4 + size].decode()
        at += 4 + size


def replay(log, bank, wanted):
    value = bytes(hashlib.new(bank).digest_size)
    for pcr, _, digests, _ in events(log):
        if pcr == wanted:
            value = hashlib.new(bank, value + digests[bank]).digest()
    return value


def quoted_pcrs(folder):
    """{(bank, PCR): value} of a quote that stock tpm2-tools accept."""
    command = ["tpm2_checkquote", "-u", "ak.pem", "-m", "quote.msg", "-s", "quote.sig", "-f", "pcrs.bin", "-g", "sha384", "-q", NONCE]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    expect(result.returncode == 0, "tpm2_checkquote:", result.stderr)
    values = {}
    bank = None
    for line in result.stdout.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name in BANKS:
            bank = name
        elif bank and name.isdigit() and value.startswith("0x"):
            values[bank, int(name)] = bytes.fromhex(value[2:])
    return values


def boots(machine, modules):
    """Linux comes up; its log leads to the quoted PCRs, and so do the files. Returns PCR 17's SHA-256 value."""
    greeting = machine.line()
    expect(greeting == "ready", "the agent says", repr(greeting), machine.text("debug.log"), machine.text("console.log"),
           machine.text("qemu.log") if not greeting else "")
    machine.say(f"attest {NONCE}")
    size = machine.line()
    expect(size.startswith("evidence "), "the agent says", repr(size))
    evidence = machine.dir / "evidence"
    tarfile.open(fileobj=io.BytesIO(machine.stream.read(int(size.split()[1])))).extractall(evidence)
    expect(machine.line() == "done", "no end of the answer")
    log = (evidence / "eventlog.bin").read_bytes()
    texts = [(pcr, text) for pcr, _, _, text in events(log)]
    expect(texts == [(17, "SKINIT"), (17, "kernel"), (17, "initrd"), (17, "command line"), (18, "boot info"),
                     (18, "acpi tables")], "events", texts)
    quoted = quoted_pcrs(evidence)
    for bank in BANKS:
        expect(replay(log, bank, 17) == predicted(bank, modules), bank, "PCR 17 of the log is not what the files lead to")
    for bank in ("sha256", "sha384"):
        for pcr in (17, 18):
            expect(quoted[bank, pcr] == replay(log, bank, pcr), bank, f"PCR {pcr} is not what the log leads to")
        for pcr in (19, 20, 21, 22):
            expect(not any(quoted[bank, pcr]), bank, f"PCR {pcr} is not zero")
    machine.say("poweroff")
    expect(machine.ended() == 0, "exit status of QEMU")
    return quoted["sha256", 17]


def refuses(machine, message):
    """The loader says why and the machine resets, which ends QEMU; Linux never runs."""
    machine.ended()
    expect(message in machine.text("debug.log"), "the loader says", repr(machine.text("debug.log")))
    expect(machine.text("console.log") == "", "Linux has run")


def changed(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1:]


def run_all(runs, qemu, engine, platform, share):
    seen = set()
    for name, interface, given, check in runs:
        begin = time.monotonic()
        with Machine(qemu, engine, platform, share, interface, given) as machine:
            value = check(machine, given)
        if value:
            expect(value not in seen, name, "leads to the same PCR 17 as another")
            seen.add(value)
        print(f"PASS {name} ({time.monotonic() - begin:.1f} s)", flush=True)


def main():
    qemu, engine, banyan, share, kernel, flavour = sys.argv[1:]
    share = pathlib.Path(share)
    wanted = [pathlib.Path(qemu), pathlib.Path(engine), pathlib.Path(banyan), pathlib.Path(kernel), share / f"initrd-{flavour}.img"]
    for path in wanted:
        if not path.exists():
            print(f"skipped: {path} is not there")
            return 77
    modules = {"slb": (share / "loader.slb").read_bytes(), "kernel": pathlib.Path(kernel).read_bytes(),
               "initrd": (share / f"initrd-{flavour}.img").read_bytes(), "command-line": COMMAND_LINE}
    runs = [
        ("as built", "tis", modules, boots),
        # In the padding before the first instruction: the loader works all the same.
        ("a changed loader", "tis", modules | {"slb": changed(modules["slb"], 5)}, boots),
        ("a changed command line", "crb", modules | {"command-line": COMMAND_LINE + b" debug"}, boots),
        ("no kernel", "crb", modules | {"kernel": bytes(1 << 20)},
         lambda m, _: refuses(m, "kernel: it has no Linux setup header")),
        ("a cut kernel", "tis", modules | {"kernel": modules["kernel"][:1 << 20]},
         lambda m, _: refuses(m, "kernel: it is shorter than its header says")),
        ("a NUL in the command line", "crb", modules | {"command-line": b"quiet\0debug"},
         lambda m, _: refuses(m, "command line: has a NUL")),
    ]
    with tempfile.TemporaryDirectory(prefix="banyan-platform-") as folder:
        platform = pathlib.Path(folder) / "private"
        subprocess.run([banyan, "platform", "new", platform, "--instances", "1"], check=True, stdout=subprocess.DEVNULL)
        run_all(runs, qemu, engine, platform, share)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        print(f"FAIL {failure}")
        sys.exit(1)
