# SPDX-License-Identifier: GPL-2.0-or-later
"""The vTPM's figures on the host: against swtpm over its socket, and against libtpms in one process."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from figures import Figure, Missing, peer_of

SETUP_WAIT_US = 500_000  # swtpm_setup waits 500 times 1 ms for a child that has ended and that it never collects
EXTEND_PAIRS = 25  # short ones: neighbours are busy for seconds at a time


class Load:
    """One side, brought up; see vtpm_load/main.cpp."""

    def __init__(self, setting, side, count, operation, folder="-"):
        self.child = subprocess.Popen(
            [setting.load, side, str(count), operation, str(folder), setting.engine],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.line() != "ready":
            raise Missing(f"{side}: {count} TPMs did not come up")

    def line(self):
        text = self.child.stdout.readline().strip()
        if not text:
            raise Missing(f"{' '.join(map(str, self.child.args))} ended with {self.child.wait()}")
        return text

    def ask(self, request):
        self.child.stdin.write(request + "\n")
        self.child.stdin.flush()
        return float(self.line())

    def end(self):
        self.child.stdin.close()
        try:
            self.child.wait(60)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def scratch(setting):
    """On the disk that the build lies on, not in memory."""
    return tempfile.TemporaryDirectory(prefix="vtpm-bench-", dir=setting.root / "build")


def processes_below(pid):
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def rates(setting, figure, peer, count, operation, pairs, seconds):
    with scratch(setting) as folder, Load(setting, "ours", count, operation) as ours, \
            Load(setting, peer, count, operation, folder) as theirs:
        for i in range(pairs):
            order = (ours, theirs) if i % 2 == 0 else (theirs, ours)
            rate = {side: side.ask(f"go {seconds}") for side in order}
            figure.add(rate[ours], rate[theirs])
    return figure


def extends(setting, count, pairs, bar):
    figure = Figure(f"extends_n{count}", "PCR_Extend/s", setting.swtpm, bar, at_least=True)
    return rates(setting, figure, "swtpm", count, "extend", pairs, seconds=0.5)


def quotes(setting, pairs):
    figure = Figure("quotes_n64", "P-256 quotes/s", setting.libtpms, 0.95, at_least=True)
    return rates(setting, figure, "libtpms", 64, "quote", pairs, seconds=2.0)


def platform_that_makes(setting, folder):
    """A platform in which the engine makes instances as they are needed: not of class machine."""
    place = pathlib.Path(folder) / "platform"
    subprocess.run([setting.tool, "platform", "new", place, "--instances", "1"], check=True, stdout=subprocess.DEVNULL)
    (place / "class").write_text("test\n")
    return place


def creations(setting, name, pairs, bar, peer, theirs_us):
    """Ours: from power-on to ready and both EKs read, out of the pool, durable, sandboxed."""
    figure = Figure(name, "us", peer, bar)
    with scratch(setting) as folder, \
            Load(setting, "ours", pairs + 1, "create", platform_that_makes(setting, folder)) as ours:
        time.sleep(2)  # the pool fills
        ours.ask("go")  # instance 0, which was there; the first warms the programs of both sides
        theirs_us(folder, 0)
        for i in range(pairs):
            if i % 2 == 0:
                mine = ours.ask("go")
                figure.add(mine, theirs_us(folder, i + 1))
            else:
                theirs = theirs_us(folder, i + 1)
                figure.add(ours.ask("go"), theirs)
    return figure


def create_vs_start(setting, pairs):
    """swtpm from the start of the process to its first answer; it has no keys then."""
    with scratch(setting) as folder, Load(setting, "swtpm", pairs + 1, "create", folder) as swtpm:
        return creations(setting, "create_vs_start", pairs, 1 / 6, setting.swtpm, lambda _f, _i: swtpm.ask("go"))


def setup_and_start_us(setting, folder, index):
    """swtpm_setup with an RSA-2048 EK, then swtpm to its first answer. Two keys would take it two runs."""
    state = pathlib.Path(folder) / f"setup-{index}" / "0"
    state.mkdir(parents=True)
    began = time.monotonic()
    subprocess.run(["swtpm_setup", "--tpm2", "--tpm-state", state, "--createek", "--not-overwrite"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    setup = (time.monotonic() - began) * 1e6
    with Load(setting, "swtpm", 1, "create", state.parent) as swtpm:
        return setup + swtpm.ask("go")


def create_vs_setup(setting, pairs):
    """Less swtpm_setup's wait. The row has the whole time too, and the ratio to it."""
    whole = []

    def theirs_us(folder, index):
        whole.append(setup_and_start_us(setting, folder, index))
        return whole[-1] - SETUP_WAIT_US

    figure = creations(setting, "create_vs_setup", pairs, 1 / 50, setting.swtpm_setup, theirs_us)
    with_wait = Figure("create_vs_setup_with_wait", "us", setting.swtpm_setup, 1 / 50)
    for mine, theirs in zip(figure.ours, whole[1:]):
        with_wait.add(mine, theirs)
    return figure, with_wait


def uss_kb(pid):
    total = 0
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            total += int(line.split()[1])
    return total


def shared_files_kb(pid):
    """Mailbox and vault: shared with the emulator and the keeper, so nobody's own, but there for this instance."""
    total, counts = 0, False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            counts = "/memfd:" in line
        elif counts and line.startswith(("Shared_Clean:", "Shared_Dirty:")):
            total += int(line.split()[1])
    return total


def memory_uss(setting, pairs):
    """What 64 TPMs take, all processes together, over 64: ours with zygote, keeper, signer, mailboxes and vaults."""
    count = 64
    figure = Figure("memory_uss", "KiB per instance", setting.swtpm, 0.4)
    for _ in range(pairs):
        with scratch(setting) as folder, Load(setting, "ours", count, "extend") as ours, \
                Load(setting, "swtpm", count, "extend", folder) as swtpm:
            try:
                mine = sum(uss_kb(p) + shared_files_kb(p) for p in processes_below(ours.child.pid))
                theirs = sum(uss_kb(p) for p in processes_below(swtpm.child.pid))
            except PermissionError as error:
                raise Missing("memory_uss reads /proc of processes that forbid it; run it as root") from error
        figure.add(mine / count, theirs / count)
    return figure


def alive_1000(setting, _pairs):
    """The peer is the number that was asked for."""
    count = 1000
    figure = Figure("alive_1000", "instances", {"path": "asked for", "version": str(count), "digest": ""}, 1.0,
                    at_least=True)
    done = subprocess.run([setting.load, "ours", str(count), "alive", "-", setting.engine], capture_output=True,
                          text=True, check=False)
    figure.add(int(done.stdout or 0), count)
    figure.exact = True
    if done.returncode:
        print(done.stderr, end="", flush=True)
    return figure


class HostSetting:
    def __init__(self, root):
        self.root = root
        self.load = root / "build/tests/bin/vtpm_load"
        self.engine = root / "build/bin/banyan-vtpm-engine"
        self.tool = root / "build/bin/banyan"
        for path in (self.load, self.engine, self.tool):
            if not path.exists():
                raise Missing(f"{path.relative_to(root)} is missing; build it: "
                              "cmake --build build --target vtpm_load banyan-tool")
        self.swtpm = self.program("swtpm")
        self.swtpm_setup = self.program("swtpm_setup")
        library = next(iter(pathlib.Path("/usr/lib").glob("*/libtpms.so.0")), None)
        self.libtpms = {"path": str(library), "version": os.path.basename(os.path.realpath(library or "")),
                        "digest": ""}

    @staticmethod
    def program(name):
        path = shutil.which(name)
        if not path:
            raise Missing(f"{name} is not installed (packages swtpm and swtpm-tools)")
        return peer_of(path)


FIGURES = {
    "create_vs_start": lambda s, n: create_vs_start(s, n or 15),
    "create_vs_setup": lambda s, n: create_vs_setup(s, n or 9),
    "memory_uss": lambda s, n: memory_uss(s, n or 3),
    "extends_n1": lambda s, n: extends(s, 1, n or EXTEND_PAIRS, 1.0),
    "extends_n16": lambda s, n: extends(s, 16, n or EXTEND_PAIRS, 1.0),
    "extends_n64": lambda s, n: extends(s, 64, n or EXTEND_PAIRS, 1.0),
    "extends_n256": lambda s, n: extends(s, 256, n or EXTEND_PAIRS, 2.0),
    "quotes_n64": lambda s, n: quotes(s, n or 21),
    "alive_1000": lambda s, n: alive_1000(s, n),
}
