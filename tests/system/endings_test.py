#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: endings_test.py BUILD [TEST...]

How VMs end, and that nobody else notices: power-off, reboot, panic, stop by the host, hang, restart.
"""

from machine import COMMAND_LINE, MachineTest, TOP, main, vm

NO_USERSPACE = " rdinit=/nothing init=/nothing" # the kernel panics at the end of its boot


class Endings(MachineTest):
    def ends(self, how, ended):
        self.expect(self.run_machine(self.file(TOP + vm("alpha", "cloud-amd64")), "--end", how), 0)
        self.expect_attested(self.report(), ended)

    def test_reboot(self):
        self.ends("reboot", "reboot")

    def test_stop(self):
        self.ends("stop", "stopped")

    def test_panic(self):
        self.ends("panic", "reboot")

    def test_restart_is_a_new_life_that_attests(self):
        machine = self.file(TOP + vm("alpha", "cloud-amd64", on_reboot="restart"))
        self.expect(self.run_machine(machine, "--end", "reboot"), 0)
        self.assertEqual(self.messages.count("alpha: created"), 2)
        self.assertEqual(self.messages.count("alpha: evidence is here"), 2)
        alpha = self.report()["vms"][0]
        self.assertEqual((alpha["verdict"], alpha["ended"]), ("attested", "poweroff"))

    def test_hang_is_named_and_the_other_vm_goes_on(self):
        stuck = COMMAND_LINE.replace("panic=-1", "panic=0") + NO_USERSPACE
        machine = self.file(TOP + vm("alpha", "cloud-amd64") + vm("beta", "cloud-amd64", command_line=stuck))
        self.expect(self.run_machine(machine, "--timeout", "boot=60"), 4, 'VM "beta" hung in phase boot')
        alpha, beta = self.report()["vms"]
        self.assertEqual((alpha["verdict"], alpha["ended"]), ("attested", "poweroff"))
        self.assertEqual((beta["verdict"], beta["ended"]), ("failed", "hung"))
        self.assertTrue((self.evidence / "consoles/beta.log").exists())

    def test_panic_of_one_vm_does_not_disturb_another(self):
        # Without no_ipi_broadcast its last interrupt goes to all cores that it can name.
        machine = self.file(TOP + vm("alpha", "cloud-amd64",
                                     command_line=COMMAND_LINE.replace(" no_ipi_broadcast=1", "") + NO_USERSPACE) +
                            vm("beta", "cloud-amd64"))
        self.expect(self.run_machine(machine), 5, 'VM "alpha" ended (reboot) in phase boot')
        alpha, beta = self.report()["vms"]
        self.assertEqual((alpha["verdict"], alpha["ended"]), ("failed", "reboot"))
        self.assertEqual((beta["verdict"], beta["ended"]), ("attested", "poweroff"))
        self.assertEqual(beta["exits"], {"running": 0, "final": 1})


if __name__ == "__main__":
    main()
