# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures of the vTPM that a guest measures: guest/tpmprobe on an unmodified Debian kernel, through /dev/tpmN.

The peer of the extends is the stock emulator of the same source and flags with swtpm behind -tpmdev emulator. Both
machines run at once and are asked in turn; each sample is the median of many commands.

Fairness is measured on one plain machine with an instance behind each of two windows: cores 0 and 1 flood the first TPM,
core 2 times extends on the second, core 3 times a timer interrupt, and the host times a QMP round trip. The peer is the
same machine before the flood. A sample is the worse of two floods: short commands, and RSA key generation.
"""

import math
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from figures import Figure, Missing, peer_of  # noqa: E402
from listening import wait_until_listening  # noqa: E402
from probe import Probe, vtpm_devices  # noqa: E402

SWTPM_STARTS_S = 20
EXTENDS = 400
EXTEND_PAIRS = 41  # neighbours slow what computes for seconds at a time
FAIR_EXTENDS = 2000  # their p99 is asked for
FAIR_PAIRS = 41  # a sample is long or short by what else the host does; their median is asked for
TICKS = 400
ROUND_TRIPS = 200
ROUNDS_MAX = 50
CORES = 4
IRQS = (5, 6)
BQL_EXTENDS = 400
FLOODS = ("extend", "rsa")
BQL_LINE = re.compile(r"banyan_vtpm_bql ns (\d+) cpu (\d+) waited (\d+) preempted (\d+) control (\d+)")


def p99(values):
    return sorted(values)[int(0.99 * (len(values) - 1))]


class Swtpm:
    """A software TPM with a fresh state, for one emulator."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="banyan-swtpm-"))
        self.socket = self.dir / "control"
        self.child = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.dir}", "--ctrl", f"type=unixio,path={self.socket}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            wait_until_listening(self.child, SWTPM_STARTS_S, self.socket)
        except RuntimeError as error:
            self.close()
            raise Missing(str(error)) from error

    def options(self):
        return ["-chardev", f"socket,id=swtpm,path={self.socket}", "-tpmdev", "emulator,id=swtpm,chardev=swtpm"]

    def close(self):
        self.child.kill()
        self.child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


class Machines:
    """Probes and what stands behind them, all ended together."""

    def __init__(self):
        self.open = []

    def add(self, thing):
        self.open.append(thing)
        return thing

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for thing in reversed(self.open):
            thing.close()


def stock_with_tpm(setting, patch=None):
    """The stock emulator, or its twin with one patch of tests/bench; made when it is not there."""
    binary = build_of(setting) / ("bin/qemu-stock" + (f"-{patch}" if patch else ""))
    if not binary.exists() or "tpm-tis" not in subprocess.run([binary, "-device", "help"], capture_output=True, text=True,
                                                              check=False).stdout:
        print(f"bench: building {binary.name}", flush=True)
        arguments = [setting.root / f"tests/bench/{patch}.patch"] if patch else []
        if subprocess.run([setting.root / "scripts/qemu", "stock", *arguments], check=False,
                          stdin=subprocess.DEVNULL).returncode:
            raise Missing(f"{binary.name} cannot be built")
    return binary


def build_of(setting):
    return setting.root / "build"


def ours(setting, machines, instances, cores=2, first="", window="", options=(), before=(), **more):
    build = build_of(setting)
    return machines.add(Probe(build / "bin/qemu-system-x86_64", build, vtpm_devices(build, instances, first, window), cores, options,
                              before, **more))


def with_swtpm(setting, machines, qemu, device):
    swtpm = machines.add(Swtpm())
    return machines.add(Probe(qemu, build_of(setting), [f"{device},tpmdev=swtpm"], options=swtpm.options()))


def extend_ns(probe, tpm=0, core=0, count=EXTENDS):
    return [int(word) for word in probe.ask("time", tpm, count, core).split()]


class AgainstBoth(Figure):
    """With a third column: the same peer, its requests completed where they are delivered."""

    def __init__(self, name, unit, peer, bar, sync):
        super().__init__(name, unit, peer, bar, at_least=True)
        self.sync, self.sync_samples = sync, []

    def row(self):
        gain = statistics.median(ours / sync for ours, sync in zip(self.ours, self.sync_samples))
        print(f"bench: {self.name}: the peer completing synchronously {statistics.median(self.sync_samples):.6g} "
              f"{self.unit}; ours is {gain:.3g} times that", flush=True)
        return {**super().row(), "samples_sync": self.sync_samples, "ratio_sync": gain, "peer_sync": self.sync}


def extend_figure(setting, name, pairs, bar, device, interface):
    """PCR_Extends a second, from the median of each sample's times."""
    stock, sync = stock_with_tpm(setting), stock_with_tpm(setting, "swtpm-sync")
    figure = AgainstBoth(name, "PCR_Extend/s", peer_of(stock), bar, peer_of(sync))
    with Machines() as machines:
        probes = [ours(setting, machines, 1, first=f",interface={interface}"), with_swtpm(setting, machines, stock, device),
                  with_swtpm(setting, machines, sync, device)]
        for probe in probes:
            probe.wait_ready()
            extend_ns(probe, count=20)  # the first ones meet cold code
        for pair in range(pairs):
            rates = {}
            for probe in probes[pair % 3:] + probes[:pair % 3]:
                rates[probe] = 1e9 / statistics.median(extend_ns(probe))
            figure.add(rates[probes[0]], rates[probes[1]])
            figure.sync_samples.append(rates[probes[2]])
    return figure


class Fairness:
    """What the others see, idle and under a flood; measured once for all four figures."""

    def __init__(self, setting, pairs):
        self.idle, self.flooded = [], []
        with Machines() as machines:
            probe = ours(setting, machines, 2, cores=CORES)
            probe.wait_ready()
            self.sample(probe)
            for _ in range(pairs):
                self.idle.append(self.sample(probe))
                worst = {}
                for kind in FLOODS:
                    probe.ask("flood", 0, kind, 0, 1)
                    seen = self.sample(probe, flooded=True)
                    probe.ask("calm")
                    worst = {name: max(value, worst.get(name, 0)) for name, value in seen.items()}
                self.flooded.append(worst)

    @staticmethod
    def sample(probe, flooded=False):
        """Flooded: goes on until the flood has had an answer; an RSA key may take longer than all that is timed."""
        extends, late, trips = [], [], []
        for _ in range(ROUNDS_MAX):
            extends += extend_ns(probe, tpm=1, core=2, count=FAIR_EXTENDS)
            late += [int(word) for word in probe.ask("timer", TICKS, 3).split()]
            for _ in range(ROUND_TRIPS):
                began = time.monotonic()
                probe.ask_qemu("query-status")
                trips.append((time.monotonic() - began) * 1e6)
            if not flooded or int(probe.ask("sent")) > 0:
                break
        else:
            raise Missing("the flood has had no answer")
        return {"fair_extend_p50": statistics.median(extends) / 1000, "fair_extend_p99": p99(extends) / 1000,
                "fair_timer": statistics.median(late) / 1000, "fair_qmp": statistics.median(trips)}


def fair(name):
    def measure(setting, pairs):
        if not hasattr(setting, "fairness"):
            setting.fairness = Fairness(setting, pairs or FAIR_PAIRS)
        figure = Figure(name, "us", peer_of(build_of(setting) / "bin/qemu-system-x86_64"), 2.0)
        for idle, flooded in zip(setting.fairness.idle, setting.fairness.flooded):
            figure.add(flooded[name], idle[name])
        return figure
    return measure


def bql_hold_us(setting, pairs):
    """The longest time that the vTPM holds the big lock in one go, under floods of both kinds on two cores.

    A core's access takes the lock to move an interrupt line, and for nothing else: so both TPMs have an interrupt, and
    the kernel is one whose driver uses it. What counts is the thread's own time with the lock, which the host's scheduler
    has no part in, and the whole time of one that waited for anything. The host's timer interrupt is charged to the thread
    that it meets. How often it met one is seen from a control that lasts as long and does nothing: that many of the longest
    are set aside, and two standard deviations of what two such counts differ by. The peer is the microsecond.
    """
    figure = Figure("bql_hold_us", "us", peer_of(build_of(setting) / "bin/qemu-system-x86_64"), 20)
    kernel = "backports-cloud-amd64"
    if not (build_of(setting) / "images" / kernel / "vmlinuz").exists():
        raise Missing(f"the kernel {kernel} is not there: scripts/setup --tests")
    for _ in range(pairs or 3):
        with Machines() as machines:
            probe = ours(setting, machines, 2, cores=CORES, first=f",irq={IRQS[0]}", window=f",irq={IRQS[1]}", kernel=kernel,
                         linux="tpm_tis.interrupts=1")
            probe.wait_ready()
            probe.ask_qemu("trace-event-set-state", name="banyan_vtpm_bql", enable=True)
            for kind in FLOODS:
                probe.ask("flood", 0, kind, 0, 1)
                extend_ns(probe, tpm=1, core=2, count=BQL_EXTENDS)
                probe.ask("calm")
            probe.ask_qemu("trace-event-set-state", name="banyan_vtpm_bql", enable=False)
            lines = [tuple(map(int, words)) for words in BQL_LINE.findall(probe.text("qemu.log"))]
        if len(lines) < 1000:
            raise Missing(f"the lock was taken {len(lines)} times only")
        held = sorted(ns if waited else cpu for ns, cpu, waited, _, _ in lines)
        wall = sorted(ns for ns, _, _, _, _ in lines)
        control = sorted(cpu for _, _, _, _, cpu in lines)
        met = sum(1 for cpu in control if cpu > figure.bar * 1000)
        print(f"bench: bql_hold_us: {len(lines)} times, {sum(1 for line in lines if line[2])} waited, "
              f"{sum(1 for line in lines if line[3])} preempted; median {statistics.median(held):.0f} ns, 99.9 % "
              f"{held[int(0.999 * len(held))]} ns, longest {held[-1]} ns; by the wall 99.9 % "
              f"{wall[int(0.999 * len(wall))]} ns, longest {wall[-1]} ns; control: longest {control[-1]} ns, {met} above "
              f"the bar; {sum(1 for ns in held if ns > figure.bar * 1000)} of ours", flush=True)
        figure.add(held[-1 - met - int(2 * math.sqrt(2 * met))] / 1000, 1)
    return figure


FIGURES = {
    "extend_crb": lambda s, n: extend_figure(s, "extend_crb", n or EXTEND_PAIRS, 40, "tpm-crb", "crb"),
    "extend_tis": lambda s, n: extend_figure(s, "extend_tis", n or EXTEND_PAIRS, 15, "tpm-tis", "tis"),
    "fair_extend_p50": fair("fair_extend_p50"),
    "fair_extend_p99": fair("fair_extend_p99"),
    "fair_timer": fair("fair_timer"),
    "fair_qmp": fair("fair_qmp"),
    "bql_hold_us": bql_hold_us,
}
