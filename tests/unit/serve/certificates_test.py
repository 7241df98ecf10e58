#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: certificates_test.py BUILD [TEST...]

Endorsement keys and their certificates as stock tools find them in the TPM: at the TCG's handles and NV indices, each of
its key, and up to an authority whose name says what it is.
"""

import unittest

from served import *  # pylint: disable=unused-wildcard-import,wildcard-import

need("tpm2_nvread")
need("openssl")

KEYS = {  # NV index of the certificate, handle of the key, the key in openssl's words
    "RSA-2048": ("0x1c00002", "0x81010001", "(2048 bit)"),
    "P-256": ("0x1c0000a", "0x8101000a", "prime256v1"),
    "P-384": ("0x1c00016", "0x81010016", "secp384r1"),
    "IAK": ("0x1c90100", "0x81010100", "secp384r1"),
}


def run(*command, tcti=None, folder=None, fails=False):
    environment = {**os.environ, **({"TPM2TOOLS_TCTI": tcti} if tcti else {})}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False,
                          timeout=PATIENCE)
    if (done.returncode != 0) != fails:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Certificates(unittest.TestCase):
    def folder(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="banyan-certificates-"))
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def serve(self, folder, *options):
        server = Server("--tcp", "--power-on", "--startup", "--manufacturer", folder / "ca", *options,
                        state=folder / "state")
        self.addCleanup(server.end)
        return f"swtpm:host=127.0.0.1,port={server.instances[0]['tcp']}"

    def test_each_key_has_its_certificate_in_nv(self):
        folder = self.folder()
        made = run(BANYAN, "vtpm", "ca", folder / "ca")
        self.assertIn("Banyan emulator root", made)
        tcti = self.serve(folder, "--ek-p256")
        shown = run(BANYAN, "vtpm", "ca", folder / "ca", "--pem").split("-----END CERTIFICATE-----\n")
        (folder / "root.pem").write_text(shown[0] + "-----END CERTIFICATE-----\n")
        (folder / "ca.pem").write_text(shown[1] + "-----END CERTIFICATE-----\n")
        for name, (index, handle, kind) in KEYS.items():
            with self.subTest(key=name):
                run("tpm2_nvread", index, "-C", "o", "-o", f"{name}.der", tcti=tcti, folder=folder)
                run("tpm2_readpublic", "-c", handle, "-f", "pem", "-o", f"{name}.key", tcti=tcti, folder=folder)
                run("openssl", "x509", "-inform", "DER", "-in", f"{name}.der", "-out", f"{name}.pem", folder=folder)
                run("openssl", "verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "ca.pem", f"{name}.pem",
                    folder=folder)
                text = run("openssl", "x509", "-in", f"{name}.pem", "-noout", "-text", folder=folder)
                self.assertIn(kind, text)
                self.assertIn("Issuer: O = Banyan emulated hardware, OU = served, CN = \"Banyan emulator CA", text)
                of_certificate = run("openssl", "x509", "-in", f"{name}.pem", "-noout", "-pubkey", folder=folder)
                self.assertEqual(of_certificate.strip(), (folder / f"{name}.key").read_text().strip())
        self.assertEqual(len({(folder / f"{name}.key").read_text() for name in KEYS}), len(KEYS))
        with self.subTest("tpm2_getekcertificate finds them by itself"):
            run("tpm2_getekcertificate", "-X", "-o", "ek-1", "-o", "ek-2", tcti=tcti, folder=folder)
            found = {(folder / "ek-1").read_bytes(), (folder / "ek-2").read_bytes()}
            self.assertLessEqual(found, {(folder / f"{name}.der").read_bytes() for name in KEYS})
        with self.subTest("who owns the TPM cannot change them"):
            (folder / "other").write_bytes(b"x")
            run("tpm2_nvwrite", KEYS["P-256"][0], "-C", "o", "-i", "other", tcti=tcti, folder=folder, fails=True)

    def test_p256_is_made_on_request_alone(self):
        folder = self.folder()
        run(BANYAN, "vtpm", "ca", folder / "ca")
        tcti = self.serve(folder)
        index, handle, _ = KEYS["P-256"]
        run("tpm2_nvread", index, "-C", "o", tcti=tcti, fails=True)
        run("tpm2_readpublic", "-c", handle, tcti=tcti, fails=True)
        run("tpm2_nvread", KEYS["RSA-2048"][0], "-C", "o", "-o", "/dev/null", tcti=tcti)

    def test_an_authority_is_made_once(self):
        folder = self.folder()
        first = run(BANYAN, "vtpm", "ca", folder / "ca")
        self.assertEqual(run(BANYAN, "vtpm", "ca", folder / "ca"), first)
        self.assertEqual((folder / "ca").stat().st_mode & 0o777, 0o700)
        self.assertEqual((folder / "ca/root.key").stat().st_mode & 0o777, 0o600)
        (folder / "other").mkdir()
        (folder / "other/something").write_text("mine")
        run(BANYAN, "vtpm", "ca", folder / "other", fails=True)
        self.assertEqual([p.name for p in (folder / "other").iterdir()], ["something"])


if __name__ == "__main__":
    main()
