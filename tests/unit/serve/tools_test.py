#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: tools_test.py BUILD [TEST...]

Stock tpm2-tools through the swtpm and mssim TCTIs, on two instances at once; what a power cycle keeps and loses; and
the program's own manners.
"""

import concurrent.futures
import hashlib
import stat
import unittest

from served import *  # pylint: disable=unused-wildcard-import,wildcard-import

need("tpm2_getrandom")
need("openssl")


def tool(tcti, *command, folder=None, fails=False):
    done = subprocess.run(command, env={**os.environ, "TPM2TOOLS_TCTI": tcti}, cwd=folder, capture_output=True,
                          text=True, check=False, timeout=PATIENCE)
    if (done.returncode != 0) != fails:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def pcr(tcti, number):
    return tool(tcti, "tpm2_pcrread", f"sha256:{number}").split("0x")[1].strip().lower()


class Tools(unittest.TestCase):
    def serve(self, *options, **more):
        server = Server(*options, **more)
        self.addCleanup(server.end)
        return server

    def folder(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="banyan-serve-tools-"))
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def work(self, tcti, mark):
        """Keys, a quote, NV and PCRs by stock tools; what the TPM is afterwards."""
        folder = self.folder()
        tool(tcti, "tpm2_pcrextend", f"16:sha256={hashlib.sha256(mark).hexdigest()}")
        flush = lambda: tool(tcti, "tpm2_flushcontext", "-t")  # there is no resource manager
        tool(tcti, "tpm2_createprimary", "-C", "o", "-g", "sha256", "-G", "ecc", "-c", "primary.ctx", folder=folder)
        tool(tcti, "tpm2_create", "-C", "primary.ctx", "-G", "ecc256:ecdsa", "-u", "key.pub", "-r", "key.priv",
             folder=folder)
        flush()
        tool(tcti, "tpm2_load", "-C", "primary.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx", folder=folder)
        flush()
        tool(tcti, "tpm2_readpublic", "-c", "key.ctx", "-f", "pem", "-o", "key.pem", folder=folder)
        flush()
        tool(tcti, "tpm2_quote", "-c", "key.ctx", "-l", "sha256:16", "-q", mark.hex(), "-m", "quote", "-s", "signature",
             "-o", "pcrs", "-g", "sha256", folder=folder)
        tool(tcti, "tpm2_checkquote", "-u", "key.pem", "-m", "quote", "-s", "signature", "-f", "pcrs", "-g", "sha256",
             "-q", mark.hex(), folder=folder)
        flush()
        tool(tcti, "tpm2_nvdefine", "0x1500016", "-C", "o", "-s", "8", "-a", "ownerread|ownerwrite")
        (folder / "mark").write_bytes(mark)
        tool(tcti, "tpm2_nvwrite", "0x1500016", "-C", "o", "-i", "mark", folder=folder)
        return pcr(tcti, 16)

    def test_two_instances_at_once_by_both_tctis(self):
        server = self.serve("--tcp", "--mssim", "--power-on", "--startup", instances=2)
        for kind in ("tcp", "mssim"):
            ports = [one["tcp"] if kind == "tcp" else one["mssim"]["tcp"] for one in server.instances]
            all_tctis = [f"{'swtpm' if kind == 'tcp' else 'mssim'}:host=127.0.0.1,port={port}" for port in ports]
            if kind == "mssim":  # the first round has left its mark in both
                for tcti in all_tctis:
                    tool(tcti, "tpm2_nvundefine", "0x1500016", "-C", "o")
                    tool(tcti, "tpm2_pcrreset", "16")
            with concurrent.futures.ThreadPoolExecutor() as pool:
                marks = (b"instance", b"another.")
                pcrs = list(pool.map(self.work, all_tctis, marks))
            for tcti, mark, value in zip(all_tctis, marks, pcrs):
                digest = hashlib.sha256(bytes(32) + hashlib.sha256(mark).digest()).hexdigest()
                self.assertEqual(value, digest)
                self.assertIn(mark.decode(), tool(tcti, "tpm2_nvread", "0x1500016", "-C", "o", "-s", "8"))

    def test_a_power_cycle_keeps_nv_and_loses_pcrs(self):
        state = self.folder() / "state"
        mark = b"survives"
        for life in range(2):
            server = Server("--tcp", "--mssim", instances=2, state=state)
            try:
                self.power_cycles(server, mark, life)
            finally:
                self.assertEqual(server.end(), 0)

    def power_cycles(self, server, mark, life):
        tcti = f"swtpm:host=127.0.0.1,port={server.instances[1]['tcp']}"
        with server.control(1) as control:
            tool(tcti, "tpm2_getrandom", "8", fails=True)  # it is off
            self.assertEqual(control.control(INIT, word(0)), SUCCESS)
            tool(tcti, "tpm2_getrandom", "8", fails=True)  # TPM2_Startup is the client's
            tool(tcti, "tpm2_startup", "-c")
            if life == 0:
                self.work(tcti, mark)
            for how in ("reset", "off and on", "shutdown"):
                with self.subTest(life=life, how=how):
                    tool(tcti, "tpm2_pcrextend", f"16:sha256={'ab' * 32}")
                    self.assertNotEqual(pcr(tcti, 16), "00" * 32)
                    if how == "shutdown":
                        self.assertEqual(control.control(SHUTDOWN), SUCCESS)
                        self.assertTrue(control.ended())
                        control = server.control(1)
                        self.addCleanup(control.close)
                    elif how == "off and on":
                        self.assertEqual(control.control(STOP), SUCCESS)
                    self.assertEqual(control.control(INIT, word(0)), SUCCESS)
                    tool(tcti, "tpm2_startup", "-c")
                    self.assertEqual(pcr(tcti, 16), "00" * 32)
                    self.assertIn(mark.decode(), tool(tcti, "tpm2_nvread", "0x1500016", "-C", "o", "-s", "8"))
        port = server.instances[1]["mssim"]["tcp"]
        with Client(port + 1) as platform:
            for signal_code in (2, 1, 17):  # power off, power on, reset
                platform.send(word(signal_code))
                self.assertEqual(platform.receive(4), word(0))
            platform.send(word(20))  # the session's end
        tool(f"mssim:host=127.0.0.1,port={port}", "tpm2_startup", "-c")

    def test_certificates_say_served_under_an_authority_of_their_own(self):
        server = self.serve("--tcp", "--power-on", "--startup", instances=2)
        tcti = f"swtpm:host=127.0.0.1,port={server.instances[1]['tcp']}"
        folder, public = self.folder(), pathlib.Path(server.report["public"])
        for index, name in (("0x1C00002", "RSA EK"), ("0x1C00016", "EK"), ("0x1C90100", "IAK")):
            tool(tcti, "tpm2_nvread", index, "-C", "o", "-o", "certificate.der", folder=folder)
            subprocess.run(["openssl", "x509", "-inform", "DER", "-in", "certificate.der", "-out", "certificate.pem"],
                           cwd=folder, check=True)
            text = subprocess.run(["openssl", "x509", "-in", "certificate.pem", "-noout", "-subject", "-issuer"],
                                  cwd=folder, check=True, capture_output=True, text=True).stdout
            subject, issuer = text.splitlines()
            self.assertIn("OU = served", subject, name)
            self.assertIn("vTPM 1", subject, name)
            self.assertIn("CN = \"Banyan emulator CA, class served\"", issuer, name)
            subprocess.run(["openssl", "verify", "-CAfile", public / "manufacturer.pem", "-untrusted",
                            public / "chain.pem", "certificate.pem"], cwd=folder, check=True, capture_output=True)

    def test_sockets_are_for_this_user_alone(self):
        server = self.serve("--mssim", instances=2)
        folder = server.folder / "sockets"
        self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
        sockets = list(folder.iterdir())
        self.assertEqual(len(sockets), 8)
        for path in sockets:
            self.assertTrue(stat.S_ISSOCK(path.stat().st_mode))
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)

    @unittest.skipUnless(os.geteuid() == 0, "only root can be somebody else")
    def test_another_user_is_sent_away_and_told_of_once(self):
        server = self.serve("--tcp")
        folder = server.folder / "sockets"
        for path in (server.folder, folder, *folder.iterdir()):
            path.chmod(0o777)  # as who labels files for others might do
        instance = server.instances[0]
        other = "import socket, sys; where = sys.argv[1]\n" \
            "s = socket.socket(socket.AF_UNIX if where[0] == '/' else socket.AF_INET)\n" \
            "s.connect(where if where[0] == '/' else ('127.0.0.1', int(where)))\n" \
            "s.settimeout(60)\ntry:\n    s.send(bytes(8))\n    print(len(s.recv(1)))\n" \
            "except (ConnectionResetError, BrokenPipeError):\n    print(0)\n"
        for where in (instance["control"], instance["data"], instance["tcp"], instance["control"]):
            done = subprocess.run(["/usr/bin/python3", "-c", other, str(where)], user=65534, group=65534,
                                  extra_groups=[], capture_output=True, text=True, check=False, timeout=PATIENCE)
            self.assertEqual((done.returncode, done.stdout), (0, "0\n"), done.stderr)
        with server.control() as control:
            self.assertEqual(control.control(INIT, word(0)), SUCCESS)
        self.assertEqual(server.said().count("refused: a client of user 65534"), 1, server.said())

    def run_serve(self, *options):
        return subprocess.run([BANYAN, "vtpm", "serve", *options], capture_output=True, text=True, check=False,
                              timeout=PATIENCE, stdin=subprocess.DEVNULL)

    def test_the_folder_is_one_servers_and_nobody_elses(self):
        server = self.serve()
        done = self.run_serve("--dir", server.folder / "sockets")
        self.assertEqual(done.returncode, 3)
        self.assertIn("another server has it", done.stderr)
        wide = self.folder() / "wide"
        wide.mkdir()
        wide.chmod(0o755)
        done = self.run_serve("--dir", wide)
        self.assertEqual(done.returncode, 3)
        self.assertIn("mode 0700", done.stderr)
        done = self.run_serve("--dir", self.folder() / ("x" * 120))
        self.assertEqual(done.returncode, 3)
        self.assertIn("at most 107 bytes", done.stderr)
        self.assertEqual(self.run_serve("--instances", "0", "--dir", wide).returncode, 2)
        self.assertEqual(self.run_serve().returncode, 2)

    def test_a_platform_of_class_machine_is_not_served(self):
        state = self.folder() / "state"
        state.mkdir()
        subprocess.run([BANYAN, "platform", "new", state / "private", "--public", state / "public", "--instances", "1"],
                       check=True, stdout=subprocess.DEVNULL)
        done = self.run_serve("--dir", self.folder() / "sockets", "--state", state)
        self.assertEqual(done.returncode, 2)
        self.assertIn("class machine", done.stderr)

    def test_it_ends_as_it_was_told_and_leaves_nothing(self):
        for how, status in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
            server = Server("--power-on", instances=3)
            sockets = server.folder / "sockets"
            for i in range(3):
                with server.control(i) as control:
                    self.assertEqual(control.control(GET_ESTABLISHED, b"", 4)[0], SUCCESS)
            workers = child_processes(server.process.pid)
            self.assertGreaterEqual(len(workers), 4)  # a worker each, and the zygote's two
            server.process.send_signal(how)
            self.assertEqual(server.process.wait(PATIENCE), status)
            self.assertEqual(list(sockets.iterdir()), [])
            self.assertEqual([pid for pid in workers if pathlib.Path(f"/proc/{pid}").exists()], [])
            server.end()


if __name__ == "__main__":
    main()
