// SPDX-License-Identifier: GPL-2.0-or-later
// Evidence and the tools that others use: tpm2-tools write it, tpm2-tools and openssl read it.

#include <cstdlib>
#include <sys/wait.h>

#include <gtest/gtest.h>

#include "banyan/arch/boot_info.hpp"
#include "tests/unit/attest/machine.hpp"

namespace banyan::attest::testing {

namespace fs = std::filesystem;

int shell(const std::string &command)
{
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool have(const char *program)
{
    return shell(std::string("command -v ") + program + " >/dev/null 2>&1") == 0;
}

class StockTools : public ::testing::Test {
protected:
    void SetUp() override
    {
        for (const char *tool : {"tpm2_quote", "tpm2_checkquote", "tpm2_eventlog", "tpm2_nvread", "openssl"}) {
            if (!have(tool)) {
                GTEST_SKIP() << tool << " is not installed";
            }
        }
        machine_.emplace(Machine::make(folder_.path(), 2));
        const Bytes slb(4000, 0x5a);
        VmReference vm;
        vm.name = "alpha";
        vm.domain = 1;
        vm.instance = 1;
        vm.items = {item_of_bytes(17, boot::kEventSkinit, boot::kTextSkinit, "loader.slb", slb),
                    item_of_bytes(17, boot::kEventIpl, boot::kTextKernel, "vmlinuz", Bytes(999, 1)),
                    item_of_bytes(17, boot::kEventIpl, boot::kTextInitrd, "initrd", Bytes(888, 2)),
                    item_of_bytes(17, boot::kEventIpl, boot::kTextCommandLine, "command line", Bytes(77, 3)),
                    item_of_bytes(18, boot::kEventIpl, boot::kTextBootInfo, "boot info", Bytes(66, 4)),
                    item_of_bytes(18, boot::kEventIpl, boot::kTextAcpi, "ACPI", Bytes(55, 5))};
        run_ = plan_run(*machine_, vm, slb, Bytes(32, 0xa5));
        vm_ = folder_.path() / "evidence/alpha";
        write_evidence(vm_, collect(*machine_, run_));
        write_owner(folder_.path() / "evidence/owner", "alpha", owner_record(*machine_, run_));
        take(write_new_file(folder_.path() / "slb", slb, 0644));
    }

    /// In the VM's folder, with the vTPM of the VM for tpm2-tools.
    int run_tool(const std::string &command, const std::string &out = "/dev/null")
    {
        const std::string tcti = std::string("cmd:" BANYAN_TPM_SERVER " ") + machine_->private_folder().string() +
                                 " 1 " + (folder_.path() / "slb").string() + " " + (vm_ / "eventlog.bin").string();
        return shell("cd " + vm_.string() + " && TPM2TOOLS_TCTI='" + tcti + "' " + command + " >" + out + " 2>" +
                     (folder_.path() / "stderr").string());
    }

    Verdict judge()
    {
        return verify_folder(folder_.path() / "evidence", folder_.path() / "evidence/owner", {run_.reference},
                             machine_->anchors())
            .at(0);
    }

    std::string nonce() const { return to_hex(run_.nonce); }
    std::string checkquote(const std::string &nonce) const
    {
        return "tpm2_checkquote -u ak.pem -m quote.msg -s quote.sig -f pcrs.bin -g sha384 -q " + nonce;
    }

    TemporaryFolder folder_;
    std::optional<Machine> machine_;
    VmRun run_;
    fs::path vm_;
};

TEST_F(StockTools, ReadWhatWeCollect)
{
    EXPECT_TRUE(judge().attested) << judge().reason;
    EXPECT_EQ(run_tool(checkquote(nonce())), 0);
    EXPECT_NE(run_tool(checkquote("00")), 0);
    const std::string yaml = (folder_.path() / "log.yaml").string();
    EXPECT_EQ(run_tool("tpm2_eventlog eventlog.bin", yaml), 0);
    const std::string text(text_of(take(read_file(yaml, 1 << 20))));
    const auto &digest = run_.reference.items[1].digests.sha256;
    EXPECT_NE(text.find(to_hex(digest)), std::string::npos) << text;
    const std::string trust = (machine_->public_folder() / "manufacturer.pem").string();
    for (const char *file : {"iak.crt", "ek.crt", "ek-rsa.crt"}) {
        EXPECT_EQ(run_tool("openssl verify -x509_strict -CAfile " + trust + " -untrusted ../owner/chain.pem " + file),
                  0)
            << file;
    }
}

TEST_F(StockTools, WriteWhatWeVerify)
{
    for (const char *file : {"ak.pem", "quote.msg", "quote.sig", "pcrs.bin", "iak.crt", "ek.crt", "ek-rsa.crt"}) {
        fs::remove(vm_ / file);
    }
    EXPECT_EQ(run_tool("tpm2_readpublic -Q -c 0x81010100 -f pem -o ak.pem"), 0);
    EXPECT_EQ(run_tool("tpm2_quote -Q -c 0x81010100 -l sha256:all+sha384:all -g sha384 -q " + nonce() +
                       " -m quote.msg -s quote.sig -o pcrs.bin"),
              0);
    EXPECT_EQ(run_tool("tpm2_nvread -Q -o iak.crt 0x01C90100"), 0);
    EXPECT_EQ(run_tool("tpm2_nvread -Q -o ek.crt 0x01C00016"), 0);
    EXPECT_EQ(run_tool("tpm2_nvread -Q -o ek-rsa.crt 0x01C00002"), 0);
    const Verdict verdict = judge();
    EXPECT_TRUE(verdict.attested) << name_of(verdict.broken) << ": " << verdict.reason;
    EXPECT_EQ(run_tool(checkquote(nonce())), 0);
}

} // namespace banyan::attest::testing
