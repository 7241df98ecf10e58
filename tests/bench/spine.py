# SPDX-License-Identifier: GPL-2.0-or-later
"""The spine's figures: what Banyan costs at rest, and whether launches disturb each other."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import tempfile
import time

from figures import Figure, peer_of
from machine import PlainBoot


NEEDS_STOCK_QEMU = True


class Setting:
    def __init__(self, root):
        self.root = root
        self.ours = root / "build/bin/qemu-system-x86_64"
        self.stock = root / "build/bin/qemu-stock"
        self.tool = root / "build/bin/banyan"
        self.firmware = (root / "build/qemu/firmware-dirs").read_text().split()
        self.kernel = root / "build/images/cloud-amd64/vmlinuz"
        self.initrd = root / "build/share/banyan/initrd-cloud-amd64.img"


def boot_once(setting, qemu, extra=(), kernel=None, initrd=None, options="", core=None):
    boot = PlainBoot(qemu, setting.firmware, kernel or setting.kernel, initrd or setting.initrd, extra=extra,
                     options=options, core=core)
    try:
        boot.wait_ready()
        jit = boot.jit()
        return boot.end(), jit
    finally:
        boot.kill()


# Neither the processor's random numbers nor the addresses that the kernel chooses differ from boot to boot.
SAME_NUMBERS = ("-seed", "1")
SAME_ADDRESSES = "nokaslr norandmaps"

RACES = 4


def race(setting, cores):
    """User CPU of both, booted side by side: what the host does meanwhile meets both."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        boots = [pool.submit(boot_once, setting, qemu, SAME_NUMBERS, options=SAME_ADDRESSES, core=core)
                 for qemu, core in zip((setting.ours, setting.stock), cores)]
        return [boot.result()[0] for boot in boots]


def idle_boot_cpu(setting, pairs):
    """A sample is the sum of a few boots beside the peer's, the two cores in turn."""
    figure = Figure("idle_boot_cpu", "s user CPU", peer_of(setting.stock), 1.02)
    cores = (sorted(os.sched_getaffinity(0)) * 2)[:2]
    for _ in range(pairs):
        races = [race(setting, cores if i % 2 == 0 else cores[::-1]) for i in range(RACES)]
        figure.add(*map(sum, zip(*races)))
    return figure


# The same instructions each time: virtual time counts them, and the clock begins where it always does. What is left
# comes from the host's disk and sockets answering a little earlier or later.
SAME_EACH_TIME = (*SAME_NUMBERS, "-icount", "shift=1,sleep=off", "-rtc", "base=2026-01-01,clock=vm")


def idle_tb_bytes(setting, pairs):
    """Bytes of translated code, a witness next to free of noise: the least of two boots that execute the same."""
    figure = Figure("idle_tb_bytes", "bytes", peer_of(setting.stock), 1.002)
    for _ in range(pairs):
        size = {setting.ours: [], setting.stock: []}
        for _boot in range(2):
            for qemu, sizes in size.items():
                jit = boot_once(setting, qemu, SAME_EACH_TIME, options=SAME_ADDRESSES)[1]
                sizes.append(jit["gen code size"])
        figure.add(min(size[setting.ours]), min(size[setting.stock]))
    return figure


def qemu_args(*args):
    return tuple(f"--qemu-arg={arg}" for arg in args)


# No transfer time, and virtual time that counts instructions: what is left is a launch's bus cycles, and how launches wait
# for each other.
ICOUNT = qemu_args("-icount", "shift=1", "-global", "banyan-vtpm.hash-rate=0")
SERIAL = qemu_args("-global", "banyan-domains.launch-arbiter=serial")


def run_tool(setting, example, *options, accept=()):
    with tempfile.TemporaryDirectory(prefix="banyan-bench-") as folder:
        result = pathlib.Path(folder) / "run.json"
        machine = pathlib.Path(folder) / example
        text = (setting.root / "docs/examples" / example).read_text()
        for name in accept:
            text = text.replace("accept_insecure = [", f'accept_insecure = ["{name}", ')
        machine.write_text(text)
        command = [str(setting.tool), "run", str(machine), "--json", str(result),
                   "--evidence", str(pathlib.Path(folder) / "evidence"), *options]
        began = time.monotonic()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        wall = time.monotonic() - began
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
        return json.loads(result.read_text()), wall


def launch_ns(report):
    """The slowest launch of a run: from SKINIT to the loader's first instruction."""
    return max(vm["launch"]["entry_ns"] - vm["launch"]["start_ns"] for vm in report["vms"])


def launch_figure(setting, name, pairs, bar, options=(), of=launch_ns):
    """Four VMs that launch at once against one that launches alone; the peer is the same emulator."""
    figure = Figure(name, "ns virtual", peer_of(setting.ours), bar)
    for _ in range(pairs):
        four, _ = run_tool(setting, "four-vms.toml", *options)
        one, _ = run_tool(setting, "one-vm.toml", *options)
        figure.add(of(four), of(one))
    return figure


def launch_serial_control(setting, pairs):
    """The control: with an arbiter that lets one launch through at a time the same measure must see it."""
    figure = Figure("launch_serial_control", "ns virtual", peer_of(setting.ours), 3.0, at_least=True)
    for _ in range(pairs):
        four, _ = run_tool(setting, "four-vms.toml", *SERIAL, accept=("serial-arbiter",))
        one, _ = run_tool(setting, "one-vm.toml")
        figure.add(launch_ns(four), launch_ns(one))
    return figure


def demo_wall(setting, pairs):
    figure = Figure("demo_wall", "s wall", peer_of(setting.stock), 1.6)
    images = setting.root / "build/images"
    share = setting.root / "build/share/banyan"
    flavours = ("amd64", "amd64", "cloud-amd64", "cloud-amd64")
    for _ in range(pairs):
        _, ours = run_tool(setting, "four-vms.toml")
        boots = []
        began = time.monotonic()
        try:
            for flavour in flavours:
                boots.append(PlainBoot(setting.stock, setting.firmware, images / flavour / "vmlinuz",
                                       share / f"initrd-{flavour}.img", memory="384M"))
            for boot in boots:
                boot.wait_ready()
            theirs = time.monotonic() - began
        finally:
            for boot in boots:
                boot.kill()
        figure.add(ours, theirs)
    return figure


FIGURES = {
    "idle_boot_cpu": lambda s, n: idle_boot_cpu(s, n or 10),
    "idle_tb_bytes": lambda s, n: idle_tb_bytes(s, n or 3),
    "launch_n4_icount": lambda s, n: launch_figure(s, "launch_n4_icount", n or 3, 1.10, ICOUNT),
    "launch_n4_live": lambda s, n: launch_figure(s, "launch_n4_live", n or 5, 1.10),
    "launch_serial_control": lambda s, n: launch_serial_control(s, n or 3),
    "demo_wall": lambda s, n: demo_wall(s, n or 5),
}
