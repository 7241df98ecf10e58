#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: input_test.py BUILD [TEST...]

Bad input: one clear sentence with the place, the right exit status, and no machine started for it.
"""

from machine import MachineTest, TOP, main, vm


class Input(MachineTest):
    def refused(self, text, status, *texts):
        self.expect(self.run_machine(self.file(text)), status, *texts)
        self.assertEqual(len(self.messages.strip().splitlines()), 1, "one sentence")
        self.assertNotIn("QEMU runs", self.messages)

    def test_missing_kernel(self):
        self.refused(TOP + vm("alpha", "./no-such-kernel", initrd="x"), 3, "machine.toml:6:10: cannot read the kernel",
                     "no-such-kernel: there is no such file")

    def test_unknown_flavour(self):
        self.refused(TOP + vm("alpha", "riscv64"), 3, "images/riscv64/vmlinuz: there is no such file")

    def test_unreadable_initrd(self):
        (self.dir / "folder").mkdir()
        self.refused(TOP + vm("alpha", initrd="folder"), 3, "machine.toml:7:10: cannot read the initrd",
                     "not a regular file")

    def test_more_vms_than_cores(self):
        self.refused(TOP + "cores = 2\n" + vm("alpha") + vm("beta"), 2, "machine.toml:4:9: 2 VMs need 3 cores")

    def test_overlapping_memory(self):
        self.refused(TOP + vm("alpha", base=0x1_0000_0000) + vm("beta", base=0x1_1000_0000), 2,
                     'machine.toml:11:8: the memory of VM "beta"', 'overlaps that of VM "alpha"')

    def test_malformed_toml(self):
        self.refused(TOP + "[[vm]]\nname = alpha\n", 2, "machine.toml:5:8: not TOML")

    def test_unknown_key(self):
        self.refused(TOP + vm("alpha", colour="red"), 2, 'machine.toml:7:1: unknown key "colour"')

    def test_a_kernel_that_is_none(self):
        # It is measured, then refused by the loader in the VM; the host sees only that the VM does not come up.
        (self.dir / "kernel").write_bytes(b"not a kernel" * 1000)
        (self.dir / "initrd").write_bytes(b"none")
        machine = self.file(TOP + vm("alpha", "./kernel", initrd="initrd"))
        self.assertIn(self.run_machine(machine, "--timeout", "boot=20"), (4, 5), self.output)
        self.assertEqual(self.report()["vms"][0]["verdict"], "failed")


if __name__ == "__main__":
    main()
