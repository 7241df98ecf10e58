// SPDX-License-Identifier: GPL-2.0-or-later
// Evidence of the real vTPM chip and its engine, without an emulator: a platform's folder, the window as a guest drives
// it, launches as the processor issues them, reports as the key service signs them; and the verifier on top.

#include <map>
#include <thread>

#include <gtest/gtest.h>

#include "banyan/arch/boot_info.hpp"
#include "tests/unit/attest/machine.hpp"
#include "tests/unit/vtpm/vtpm_machine.hpp"

namespace banyan::attest::testing {

/// A guest's TPM commands through its domain's window.
class WindowTpm : public TpmCommands {
public:
    WindowTpm(banyan_vtpm *vtpm, std::uint32_t domain) : guest_(vtpm, domain) {}
    Bytes execute(std::uint8_t locality, const Bytes &command) override
    {
        if (!guest_.request(locality)) {
            return {};
        }
        Bytes response = guest_.command(locality, command);
        guest_.relinquish(locality);
        return response;
    }

private:
    vtpm::testing::Guest guest_;
};

class Chip : public ::testing::Test {
protected:
    static vtpm::testing::Machine::Options options(const Machine &platform)
    {
        vtpm::testing::Machine::Options options;
        options.instances = 3;
        options.platform = platform.private_folder().string();
        return options;
    }

    Chip()
    {
        for (std::uint32_t i = 1; i <= 2; ++i) {
            VmReference &vm = vms_[i];
            vm.name = i == 1 ? "alpha" : "beta";
            vm.domain = vm.instance = i;
            vm.descriptor.fill(static_cast<std::uint8_t>(i));
            vm.hypervisor.fill(0x44);
            const auto item = [](unsigned pcr, const char *text, std::uint8_t fill) {
                return item_of_bytes(pcr, boot::kEventIpl, text, text, Bytes(500, fill));
            };
            vm.items = {item_of_bytes(17, boot::kEventSkinit, boot::kTextSkinit, "loader.slb", slb_),
                        item(17, boot::kTextKernel, 2),
                        item(17, boot::kTextInitrd, 3),
                        item(17, boot::kTextCommandLine, 4),
                        item(18, boot::kTextBootInfo, 5),
                        item(18, boot::kTextAcpi, 6)};
        }
    }

    void SetUp() override
    {
        ASSERT_EQ(machine_.status, 0) << machine_.why;
        for (std::uint32_t i = 1; i <= 2; ++i) {
            ASSERT_EQ(banyan_vtpm_bind(machine_.vtpm, i, i), 0);
            ASSERT_TRUE(machine_.power(i)) << machine_.describe();
        }
    }

    Bytes sign(const VmReference &vm, std::uint32_t kind, std::uint64_t launch, std::uint32_t insecure = 0)
    {
        banyan_report_facts facts{};
        facts.size = sizeof(facts);
        facts.kind = kind;
        facts.domain = vm.domain;
        facts.instance = vm.instance;
        facts.insecure = insecure;
        facts.start_count = 1;
        facts.launch_count = launch;
        std::copy(vm.descriptor.begin(), vm.descriptor.end(), facts.digest);
        std::copy(vm.hypervisor.begin(), vm.hypervisor.end(), facts.hypervisor);
        facts.nonce_size = static_cast<std::uint32_t>(nonce_.size());
        std::copy(nonce_.begin(), nonce_.end(), facts.nonce);
        vm.name.copy(facts.name, sizeof(facts.name) - 1);
        EXPECT_EQ(banyan_vtpm_sign(machine_.vtpm, vm.domain, &facts), 0);
        Bytes out(BANYAN_REPORT_MAX);
        std::uint32_t size = 0;
        banyan_status status = BANYAN_BUSY;
        for (int i = 0; i < 10000 && status == BANYAN_BUSY; ++i) {
            status = banyan_vtpm_sign_poll(machine_.vtpm, vm.domain, out.data(), &size);
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
        EXPECT_EQ(status, 0);
        out.resize(size);
        return out;
    }

    void launch(const VmReference &vm, const VmRun &run)
    {
        ASSERT_EQ(machine_.launch(vm.instance, slb_), 0);
        WindowTpm tpm(machine_.vtpm, vm.domain);
        for (const Extension &one : run.scenario.after_launch) {
            tpm.extend(2, one.pcr, one.digests);
        }
        tpm.extend(0, 10, boot_aggregate_as_debian_6_1());
    }

    Verdict judge(const VmReference &vm, const VmRun &run, std::uint64_t launches, std::uint32_t insecure = 0)
    {
        WindowTpm tpm(machine_.vtpm, vm.domain);
        const EvidenceFiles files = evidence_of(collect_outcome(tpm, nonce_, run.scenario.selections), run,
                                                sign(vm, BANYAN_REPORT_DOMAIN, launches, insecure));
        OwnerRecord owner = owner_record(platform_, run);
        owner.receipt = sign(vm, BANYAN_REPORT_RECEIPT, 0, insecure);
        return verify_vm(files, vm, platform_.anchors(), owner);
    }

    VmRun plan(const VmReference &vm) { return plan_run(platform_, vm, slb_, nonce_); }

    TemporaryFolder folder_;
    Machine platform_{Machine::make(folder_.path(), 3)};
    vtpm::testing::Machine machine_{options(platform_)};
    Bytes slb_ = Bytes(9000, 0x5a);
    Bytes nonce_ = Bytes(32, 0xa5);
    std::map<std::uint32_t, VmReference> vms_;
};

TEST_F(Chip, AttestsTwoDomainsThroughOneWindow)
{
    for (const std::uint32_t domain : {1u, 2u}) {
        launch(vms_[domain], plan(vms_[domain]));
    }
    for (const std::uint32_t domain : {1u, 2u}) {
        const Verdict verdict = judge(vms_[domain], plan(vms_[domain]), 1);
        EXPECT_TRUE(verdict.attested) << name_of(verdict.broken) << ": " << verdict.reason;
    }
}

TEST_F(Chip, ShowsThatAVmNeverLaunched)
{
    const Verdict verdict = judge(vms_[1], plan(vms_[1]), 0);
    EXPECT_EQ(verdict.broken, Link::kReport) << verdict.reason;
    EXPECT_NE(verdict.reason.find("SKINIT did not run"), std::string::npos) << verdict.reason;
}

TEST_F(Chip, InheritsNothingThroughShutdownState)
{
    WindowTpm earlier(machine_.vtpm, 1);
    earlier.extend(0, 4, digest_bytes(Bytes(3, 3)));
    launch(vms_[1], plan(vms_[1]));
    earlier.shutdown(1); // TPM_SU_STATE: a Startup(STATE) would bring PCR 0 to 15 back
    ASSERT_TRUE(machine_.power(1)) << machine_.describe();
    EXPECT_THROW(WindowTpm(machine_.vtpm, 1).startup(1), std::exception); // the chip has done it, with CLEAR
    launch(vms_[1], plan(vms_[1]));
    const Verdict verdict = judge(vms_[1], plan(vms_[1]), 1);
    EXPECT_TRUE(verdict.attested) << name_of(verdict.broken) << ": " << verdict.reason;
}

TEST_F(Chip, CertifiesWeakenedProtectionsByName)
{
    launch(vms_[1], plan(vms_[1]));
    const Verdict verdict = judge(vms_[1], plan(vms_[1]), 1, BANYAN_INSECURE_DMA_DRAIN | BANYAN_INSECURE_DEBUG);
    EXPECT_EQ(verdict.broken, Link::kReceipt) << verdict.reason;
    EXPECT_NE(verdict.reason.find("insecure:"), std::string::npos) << verdict.reason;
    vms_[1].accept_insecure = {"dma-drain", "debug"};
    const Verdict accepted = judge(vms_[1], plan(vms_[1]), 1, BANYAN_INSECURE_DMA_DRAIN | BANYAN_INSECURE_DEBUG);
    EXPECT_TRUE(accepted.attested) << accepted.reason;
}

TEST_F(Chip, GivesSoftwareAtLocality4NoLaunch)
{
    // What SKINIT's hash sequence would be, by a guest: TPM_HASH_START, TPM_HASH_DATA, TPM_HASH_END of locality 4.
    vtpm::testing::Guest guest(machine_.vtpm, 1);
    for (const std::uint32_t offset : {0x4028u, 0x4024u, 0x4020u}) {
        (void)banyan_vtpm_mmio_write(machine_.vtpm, &guest.cycle, offset, 1, 0x5a);
    }
    WindowTpm tpm(machine_.vtpm, 1);
    EXPECT_EQ(tpm.pcr_read(Bank::kSha256, 17), Bytes(32, 0xff));
    const Verdict verdict = judge(vms_[1], plan(vms_[1]), 0);
    EXPECT_FALSE(verdict.attested);
}

} // namespace banyan::attest::testing
