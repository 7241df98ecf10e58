#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: attacks_test.py BUILD [TEST...]

What must not pass, on whole machines: other files than the machine file names, a VM that never launched, another
hypervisor, ends that wear a VM's key out. Each is refused for its own reason.
"""

import subprocess

from machine import BANYAN, BUILD, COMMAND_LINE, MachineTest, TOP, main, vm

SHARE = BUILD / "share/banyan"

# 32-bit code that enters the secure loader as SKINIT would, without SKINIT.
NO_LAUNCH = bytes([
    0xB8, 0x00, 0x00, 0x03, 0x00,        # mov  $0x30000, %eax: the block
    0x8D, 0xA0, 0x00, 0x00, 0x01, 0x00,  # lea  0x10000(%eax), %esp
    0x0F, 0xB7, 0x08,                    # movzwl (%eax), %ecx: its entry
    0x01, 0xC1,                          # add  %eax, %ecx
    0xFF, 0xE1,                          # jmp  *%ecx
])


class Attacks(MachineTest):
    def verify(self, machine):
        trust = self.data / "banyan/platform/public/manufacturer.pem"
        done = subprocess.run([BANYAN, "verify", "--evidence", self.evidence, "--machine", machine, "--trust", trust],
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.output = done.stdout
        return done.returncode

    def changed(self, path, name, at=None, old=None, new=None):
        data = bytearray(path.read_bytes())
        if at is not None:
            data[at] ^= 1
        else:
            self.assertEqual(data.count(old), 1, f"{old} in {path}")
            place = data.index(old)
            data[place:place + len(new)] = new
        (self.dir / name).write_bytes(data)
        return str(self.dir / name)

    def test_one_byte_of_kernel_initrd_or_command_line(self):
        good = self.file(TOP + vm("alpha", "cloud-amd64"))
        self.expect(self.run_machine(good), 0)
        self.expect(self.verify(good), 0, "attested")
        kernel = self.changed(BUILD / "images/cloud-amd64/vmlinuz", "vmlinuz", at=-100)
        initrd = self.changed(SHARE / "initrd-cloud-amd64.img", "initrd.img", at=-1)
        self.expect(self.verify(self.file(TOP + vm("alpha", kernel, initrd=str(SHARE / "initrd-cloud-amd64.img")))), 1,
                    "PCR 17", '"kernel"', kernel)
        self.expect(self.verify(self.file(TOP + vm("alpha", "cloud-amd64", initrd=initrd))), 1,
                    "PCR 17", '"initrd"', initrd)
        self.expect(self.verify(self.file(TOP + vm("alpha", "cloud-amd64", command_line=COMMAND_LINE + " "))), 1,
                    "PCR 17", '"command line"')

    def test_a_vm_that_never_launched(self):
        (self.dir / "stage0.bin").write_bytes(NO_LAUNCH)
        machine = self.file(TOP + vm("alpha", "cloud-amd64", stage0=str(self.dir / "stage0.bin")) +
                            vm("beta", "cloud-amd64"))
        self.expect(self.run_machine(machine), 1, "the VM never launched (SKINIT did not run)")
        alpha, beta = self.report()["vms"]
        self.assertEqual(alpha["verdict"], "refused", alpha)
        self.assertEqual(beta["verdict"], "attested", beta["reason"])

    def test_another_hypervisor(self):
        other = self.changed(SHARE / "hypervisor.elf", "other.elf", old=b"launched\n\0", new=b"launchee\n\0")
        machine = self.file(TOP.replace("[machine]", f'[machine]\nhypervisor = "{other}"\n'
                                        f'hypervisor_slb = "{SHARE}/hypervisor.slb"') + vm("alpha", "cloud-amd64"))
        self.expect(self.run_machine(machine), 1, "hypervisor is ")

    def test_stops_do_not_wear_the_key_out(self):
        machine = self.file(TOP + vm("alpha", "cloud-amd64"))
        for _ in range(5):
            self.expect(self.run_machine(machine, "--end", "stop"), 0)

    def test_overlapping_shares(self):
        machine = self.file(TOP + vm("alpha", "cloud-amd64", base=0x100000000) +
                            vm("beta", "cloud-amd64", base=0x108000000))
        self.expect(self.run_machine(machine), 2, "overlap")


if __name__ == "__main__":
    main()
