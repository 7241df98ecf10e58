// SPDX-License-Identifier: GPL-2.0-or-later
// The verifier against a machine played by libtpms: one run that goes as it should, and everything that must not pass.
// Each refusal must be for the right reason: the link that was broken, and the words that lead a reader there.

#include <algorithm>
#include <filesystem>

#include <gtest/gtest.h>

#include "attest/event_log.hpp"
#include "attest/pki.hpp"
#include "banyan/arch/boot_info.hpp"
#include "tests/unit/attest/machine.hpp"
#include "tool/cmd_platform.hpp"

namespace banyan::attest::testing {

namespace fs = std::filesystem;

Bytes pattern(std::size_t size, std::uint8_t seed)
{
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) {
        bytes[i] = static_cast<std::uint8_t>(seed + i * 7);
    }
    return bytes;
}

Sha384 some_digest(std::uint8_t seed)
{
    Sha384 digest;
    digest.fill(seed);
    return digest;
}

/// Made once: key generation and a TPM life are the slow part.
struct World {
    TemporaryFolder folder;
    Machine machine;
    Machine sister;   // another machine of the same manufacturer
    Machine stranger; // a manufacturer of its own
    Bytes slb = pattern(5000, 1);
    Bytes nonce = pattern(32, 100);
    VmReference alpha;
    VmReference beta;

    World()
        : machine(Machine::make(folder.path() / "machine", 3)),
          sister(Machine::make(folder.path() / "sister", 2, folder.path() / "machine/private/ca")),
          stranger(Machine::make(folder.path() / "stranger", 2))
    {
        alpha.name = "alpha";
        alpha.domain = 1;
        alpha.instance = 1;
        alpha.kernel = "debian:amd64";
        alpha.descriptor = some_digest(0xd1);
        alpha.hypervisor = some_digest(0x44);
        const auto item = [&](unsigned pcr, const char *text, const char *source, const Bytes &bytes) {
            return item_of_bytes(pcr, boot::kEventIpl, text, source, bytes);
        };
        alpha.items = {
            item_of_bytes(17, boot::kEventSkinit, boot::kTextSkinit, "share/loader.slb", slb),
            item(17, boot::kTextKernel, "images/vmlinuz", pattern(9000, 2)),
            item(17, boot::kTextInitrd, "share/initrd.img", pattern(7000, 3)),
            item(17, boot::kTextCommandLine, "command_line of \"alpha\"", pattern(60, 4)),
            item(18, boot::kTextBootInfo, "memory layout of \"alpha\"", pattern(400, 5)),
            item(18, boot::kTextAcpi, "ACPI tables of \"alpha\"", pattern(3000, 6)),
        };
        beta = alpha; // the same image in both: only the domain tells them apart
        beta.name = "beta";
        beta.domain = 2;
        beta.instance = 2;
        beta.descriptor = some_digest(0xd2);
    }
};

class Verifier : public ::testing::Test {
protected:
    static void SetUpTestSuite() { world_ = new World; }
    static void TearDownTestSuite()
    {
        delete world_;
        world_ = nullptr;
    }

    static World &world() { return *world_; }
    static VmRun good_run(const VmReference &vm) { return plan_run(world().machine, vm, world().slb, world().nonce); }
    static VmRun good_run() { return good_run(world().alpha); }

    /// What a VM that ran like this hands out, judged by the owner of `alpha`.
    static Verdict judge(const VmRun &run)
    {
        return verify_vm(collect(world().machine, run), run.reference, world().machine.anchors(),
                         owner_record(world().machine, run));
    }

    static World *world_;
};
World *Verifier::world_ = nullptr;

void expect_refused(const Verdict &verdict, Link link, const std::vector<std::string> &words)
{
    EXPECT_FALSE(verdict.attested);
    EXPECT_STREQ(name_of(verdict.broken), name_of(link)) << verdict.reason;
    for (const std::string &word : words) {
        EXPECT_NE(verdict.reason.find(word), std::string::npos) << "\"" << word << "\" is not in: " << verdict.reason;
    }
    ::testing::Test::RecordProperty("reason", verdict.reason);
    std::printf("    %s: %s\n", name_of(verdict.broken), verdict.reason.c_str());
}

MeasuredItem changed_by_one_byte(const MeasuredItem &item, Bytes bytes)
{
    bytes[bytes.size() / 2] ^= 1;
    return item_of_bytes(item.pcr, item.event_type, item.text, item.source, bytes);
}

/// The VM measured this in place of its item `index`; an honest log says so.
void measure_instead(VmRun &run, std::size_t index, const MeasuredItem &other)
{
    run.scenario.after_launch.at(index - 1).digests = other.digests;
    for (const Bank bank : kBanks) {
        const View digest = digest_of(other.digests, bank);
        run.events.at(index).digests[bank] = Bytes(digest.begin(), digest.end());
    }
}

TEST_F(Verifier, AttestsARunThatWentAsItShould)
{
    const Verdict verdict = judge(good_run());
    EXPECT_TRUE(verdict.attested) << name_of(verdict.broken) << ": " << verdict.reason;
    EXPECT_EQ(verdict.reason, "");
    EXPECT_EQ(verdict.name, "alpha");
    ASSERT_EQ(verdict.pcrs.count("sha384"), 1U);
    EXPECT_EQ(verdict.pcrs.at("sha256").size(), 24U);
    EXPECT_EQ(verdict.pcrs, verdict.expected);
}

TEST_F(Verifier, AttestsAKernelWithoutIma)
{
    VmRun run = good_run();
    run.scenario.ima = false;
    const Verdict verdict = judge(run);
    EXPECT_TRUE(verdict.attested) << verdict.reason;
}

TEST_F(Verifier, AttestsTheSha1BankToo)
{
    VmRun run = good_run();
    run.scenario.selections.insert(run.scenario.selections.begin(), {Bank::kSha1, 0xffffff});
    const Verdict verdict = judge(run);
    EXPECT_TRUE(verdict.attested) << verdict.reason;
    EXPECT_EQ(verdict.pcrs.size(), 3U);
}

// ---- what was measured

TEST_F(Verifier, NamesTheKernelOfWhichOneByteChanged)
{
    VmRun run = good_run();
    const MeasuredItem other = changed_by_one_byte(run.reference.items[1], pattern(9000, 2));
    measure_instead(run, 1, other);
    expect_refused(judge(run), Link::kPcr,
                   {"PCR 17", "event 2", "\"kernel\"", "images/vmlinuz", to_hex(other.digests.sha256),
                    to_hex(run.reference.items[1].digests.sha256)});
}

TEST_F(Verifier, NamesTheInitrdOfWhichOneByteChanged)
{
    VmRun run = good_run();
    measure_instead(run, 2, changed_by_one_byte(run.reference.items[2], pattern(7000, 3)));
    expect_refused(judge(run), Link::kPcr, {"PCR 17", "event 3", "\"initrd\"", "share/initrd.img"});
}

TEST_F(Verifier, NamesTheCommandLineOfWhichOneByteChanged)
{
    VmRun run = good_run();
    measure_instead(run, 3, changed_by_one_byte(run.reference.items[3], pattern(60, 4)));
    expect_refused(judge(run), Link::kPcr, {"PCR 17", "event 4", "\"command line\"", "command_line of \"alpha\""});
}

TEST_F(Verifier, NamesTheAcpiTablesInPcr18)
{
    VmRun run = good_run();
    measure_instead(run, 5, changed_by_one_byte(run.reference.items[5], pattern(3000, 6)));
    expect_refused(judge(run), Link::kPcr, {"PCR 18", "event 6", "\"acpi tables\""});
}

TEST_F(Verifier, NamesTheLoaderThatSkinitMeasured)
{
    VmRun run = good_run();
    run.scenario.slb[100] ^= 1;
    const Digests digests = digest_bytes(run.scenario.slb);
    for (const Bank bank : kBanks) {
        const View digest = digest_of(digests, bank);
        run.events[0].digests[bank] = Bytes(digest.begin(), digest.end());
    }
    expect_refused(judge(run), Link::kPcr, {"PCR 17", "event 1", "\"SKINIT\"", "share/loader.slb"});
}

TEST_F(Verifier, IsNotTakenInByALogThatShowsTheRightKernel)
{
    VmRun run = good_run();
    const std::vector<Event> honest = run.events;
    measure_instead(run, 1, changed_by_one_byte(run.reference.items[1], pattern(9000, 2)));
    run.events = honest;
    expect_refused(judge(run), Link::kPcr, {"PCR 17", "eventlog.bin does not tell why"});
}

TEST_F(Verifier, RefusesAMeasurementTooMany)
{
    VmRun run = good_run();
    const Digests more = digest_bytes(pattern(10, 9));
    run.scenario.after_launch.push_back({17, more});
    Event event{17, boot::kEventIpl, {}, {'m', 'o', 'r', 'e'}};
    for (const Bank bank : kBanks) {
        const View digest = digest_of(more, bank);
        event.digests[bank] = Bytes(digest.begin(), digest.end());
    }
    run.events.push_back(event);
    expect_refused(judge(run), Link::kPcr, {"PCR 17", "event 7", "\"more\"", "should not be there"});
}

TEST_F(Verifier, RefusesAMeasurementTooFew)
{
    VmRun run = good_run();
    run.scenario.after_launch.pop_back();
    run.events.pop_back();
    expect_refused(judge(run), Link::kPcr, {"PCR 18", "\"acpi tables\"", "is missing"});
}

TEST_F(Verifier, RefusesALogThatIsNotWhatThePcrsHold)
{
    VmRun run = good_run();
    run.events[1].digests[Bank::kSha384][0] ^= 1;
    expect_refused(judge(run), Link::kEventLog, {"event 2", "\"kernel\"", "sha384", "images/vmlinuz"});
}

TEST_F(Verifier, RefusesAVmThatNeverLaunched)
{
    VmRun run = good_run();
    run.scenario.launch = false;
    run.scenario.after_launch.clear();
    run.report.launch = 0;
    expect_refused(judge(run), Link::kReport, {"launch is 0", "never launched", "SKINIT did not run"});
}

TEST_F(Verifier, SeesInThePcrsThatAVmNeverLaunched)
{
    VmRun run = good_run();
    run.scenario.launch = false;
    run.scenario.after_launch.clear();
    run.scenario.ima = false;
    run.scenario.earlier_life = {{16, digest_bytes(pattern(3, 3))}}; // a resume raises the restart count as well
    expect_refused(judge(run), Link::kPcr, {"all ones", "never launched", "SKINIT did not run"});
}

TEST_F(Verifier, SeesThatTheTpmSawFewerLaunchesThanReported)
{
    VmRun run = good_run();
    run.report.launch = 2;
    expect_refused(judge(run), Link::kQuote, {"restart count is 1", "at least 2"});
}

TEST_F(Verifier, RefusesWhatAnEarlierLifeLeftThroughStartupState)
{
    VmRun run = good_run();
    run.scenario.earlier_life = {{4, digest_bytes(pattern(3, 3))}};
    expect_refused(judge(run), Link::kPcr, {"PCR 4 ", "earlier life"});
}

TEST_F(Verifier, RefusesAnEarlierLifeOfTheSameKernelThroughStartupState)
{
    VmRun run = good_run();
    run.scenario.earlier_life = {{10, boot_aggregate_as_debian_6_1()}};
    expect_refused(judge(run), Link::kPcr, {"PCR 10 ", "boot_aggregate"});
}

TEST_F(Verifier, RefusesWhatLinuxExtendedElsewhere)
{
    VmRun run = good_run();
    run.scenario.by_linux = {{12, digest_bytes(pattern(3, 3))}};
    expect_refused(judge(run), Link::kPcr, {"PCR 12 (sha256)"});
}

TEST_F(Verifier, ShowsTheLineOfImaThatShouldNotBeThere)
{
    VmRun run = good_run();
    run.scenario.by_linux = {{10, digest_bytes(pattern(3, 3))}};
    EvidenceFiles files = collect(world().machine, run);
    const std::string text = "10 0000000000000000000000000000000000000000 ima-sig sha256:00 /usr/bin/evil \n";
    files.ima_log = Bytes(text.begin(), text.end());
    expect_refused(verify_vm(files, run.reference, world().machine.anchors(), owner_record(world().machine, run)),
                   Link::kPcr, {"PCR 10 (sha256)", "/usr/bin/evil"});
}

TEST_F(Verifier, RefusesALoaderFileThatIsNotWhatWasMeasured)
{
    const VmRun run = good_run();
    EvidenceFiles files = collect(world().machine, run);
    const OwnerRecord owner = owner_record(world().machine, run);
    files.slb = run.slb;
    EXPECT_TRUE(verify_vm(files, run.reference, world().machine.anchors(), owner).attested);
    files.slb->back() ^= 1;
    expect_refused(verify_vm(files, run.reference, world().machine.anchors(), owner), Link::kSlb, {"slb.bin"});
}

// ---- whose evidence it is

TEST_F(Verifier, RefusesOneVmsEvidenceAsThatOfAnotherWithTheSameImage)
{
    const VmRun beta = good_run(world().beta);
    const EvidenceFiles of_alpha = collect(world().machine, good_run());
    expect_refused(verify_vm(of_alpha, world().beta, world().machine.anchors(), owner_record(world().machine, beta)),
                   Link::kClass, {"vTPM 1 EK", "vTPM 2 EK", "beta"});
}

TEST_F(Verifier, RefusesOneVmsQuoteUnderTheCertificatesOfAnother)
{
    const VmRun beta = good_run(world().beta);
    EvidenceFiles files = collect(world().machine, beta);
    const EvidenceFiles of_alpha = collect(world().machine, good_run());
    files.quote_msg = of_alpha.quote_msg;
    files.quote_sig = of_alpha.quote_sig;
    files.pcrs = of_alpha.pcrs;
    expect_refused(verify_vm(files, world().beta, world().machine.anchors(), owner_record(world().machine, beta)),
                   Link::kQuote, {"quote.sig", "ak.pem"});
}

TEST_F(Verifier, RefusesOneVmsReportAsThatOfAnother)
{
    const VmRun beta = good_run(world().beta);
    EvidenceFiles files = collect(world().machine, beta);
    files.report = world().machine.sign(good_run().report);
    expect_refused(verify_vm(files, world().beta, world().machine.anchors(), owner_record(world().machine, beta)),
                   Link::kReport, {"name is \"alpha\"", "\"beta\""});
}

TEST_F(Verifier, RefusesAnAttestationKeyThatTheCertificateDoesNotName)
{
    const VmRun run = good_run();
    EvidenceFiles files = collect(world().machine, run);
    files.ak_pem = collect(world().machine, good_run(world().beta)).ak_pem;
    expect_refused(verify_vm(files, run.reference, world().machine.anchors(), owner_record(world().machine, run)),
                   Link::kAk, {"ak.pem", "iak.crt"});
}

TEST_F(Verifier, RefusesEvidenceOfAnotherMachineOfTheSameManufacturer)
{
    const VmRun run = good_run();
    const VmRun elsewhere = plan_run(world().sister, world().alpha, world().slb, world().nonce);
    expect_refused(verify_vm(collect(world().sister, elsewhere), run.reference, world().machine.anchors(),
                             owner_record(world().machine, run)),
                   Link::kClass, {"ek.crt", "the machine that it names", "owner's chain.pem"});
}

TEST_F(Verifier, RefusesAReportOfAnotherMachineOfTheSameManufacturer)
{
    const VmRun run = good_run();
    EvidenceFiles files = collect(world().machine, run);
    files.report = world().sister.sign(run.report);
    expect_refused(verify_vm(files, run.reference, world().machine.anchors(), owner_record(world().machine, run)),
                   Link::kReport, {"report.cose", "not of the platform key"});
}

TEST_F(Verifier, RefusesEvidenceUnderACaOfItsOwn)
{
    const VmRun run = good_run();
    const VmRun forged = plan_run(world().stranger, world().alpha, world().slb, world().nonce);
    const EvidenceFiles files = collect(world().stranger, forged);
    expect_refused(verify_vm(files, run.reference, world().machine.anchors(), owner_record(world().machine, run)),
                   Link::kChain, {"ek.crt", "does not lead to a trusted root"});
}

TEST_F(Verifier, RefusesARootThatCameWithTheChain)
{
    const VmRun forged = plan_run(world().stranger, world().alpha, world().slb, world().nonce);
    OwnerRecord owner = owner_record(world().stranger, forged);
    const Bytes root = take(read_file(world().stranger.public_folder() / "manufacturer.pem", 1 << 16));
    owner.chain_pem.insert(owner.chain_pem.end(), root.begin(), root.end());
    expect_refused(verify_vm(collect(world().stranger, forged), world().alpha, world().machine.anchors(), owner),
                   Link::kChain, {"owner's chain.pem", "does not lead to a trusted root"});
}

TEST_F(Verifier, RefusesAPlatformKeyThatPlaysCertificateAuthority)
{
    const VmRun run = good_run();
    EvidenceFiles files = collect(world().machine, run);
    const auto chain = take(Certificate::list_from_pem(owner_record(world().machine, run).chain_pem));
    const Certificate iak = take(Certificate::from_der(files.iak_crt));
    const Certificate forged =
        take(issue(take(iak.subject()), Role::kIak, iak.key(), {&chain.back(), world().machine.platform_key()}));
    files.iak_crt = forged.der();
    expect_refused(verify_vm(files, run.reference, world().machine.anchors(), owner_record(world().machine, run)),
                   Link::kChain, {"iak.crt", "does not lead to a trusted root"});
}

TEST_F(Verifier, RefusesAnEkCertificateInPlaceOfThatOfAnAttestationKey)
{
    const VmRun run = good_run();
    EvidenceFiles files = collect(world().machine, run);
    files.iak_crt = files.ek_crt;
    expect_refused(verify_vm(files, run.reference, world().machine.anchors(), owner_record(world().machine, run)),
                   Link::kChain, {"iak.crt", "is not a certificate of an attestation key"});
}

TEST_F(Verifier, RefusesEveryClassButMachine)
{
    for (const char *cls : {"test", "served"}) {
        // The same root, an intermediate of the other class.
        const Machine other =
            Machine::make(world().folder.path() / cls, 2, world().machine.private_folder() / "ca", cls);
        const fs::path ca = other.private_folder() / "ca";
        const Key key = take(private_key_from_pem(take(read_file(ca / "intermediate.key", 4096))));
        const Certificate intermediate =
            std::move(take(Certificate::list_from_pem(take(read_file(ca / "intermediate.crt", 1 << 16)))).front());
        const VmRun run = plan_run(other, world().alpha, world().slb, world().nonce);
        const EvidenceFiles files = collect(other, run);
        expect_refused(verify_vm(files, run.reference, world().machine.anchors(), owner_record(other, run)),
                       Link::kClass, {"the class of its issuer is \"" + std::string(cls) + "\"", "\"machine\""});

        // A certificate that says "machine" of itself, by that intermediate.
        const Certificate iak = take(Certificate::from_der(files.iak_crt));
        Subject subject = take(iak.subject());
        subject.platform_class = "machine";
        EvidenceFiles forged = files;
        forged.iak_crt = take(issue(subject, Role::kIak, iak.key(), {&intermediate, key.get()})).der();
        OwnerRecord owner = owner_record(other, run);
        const Bytes genuine = owner_record(world().machine, good_run()).chain_pem;
        expect_refused(verify_vm(forged, run.reference, world().machine.anchors(), owner), Link::kClass,
                       {"the class of its issuer"});
    }
}

TEST_F(Verifier, RefusesAReportThatSaysItIsOfClassTest)
{
    VmRun run = good_run();
    run.report.platform_class = "test";
    expect_refused(judge(run), Link::kReport, {"class is \"test\"", "\"machine\""});
}

// ---- what the hardware says

TEST_F(Verifier, RefusesAnotherHypervisor)
{
    VmRun run = good_run();
    run.report.hypervisor = some_digest(0x45);
    run.receipt.hypervisor = run.report.hypervisor;
    expect_refused(judge(run), Link::kReceipt,
                   {"hypervisor is " + to_hex(some_digest(0x45)), to_hex(world().alpha.hypervisor)});
    run.receipt.hypervisor = run.reference.hypervisor;
    expect_refused(judge(run), Link::kReport, {"hypervisor is " + to_hex(some_digest(0x45))});
}

TEST_F(Verifier, RefusesAHypervisorThatWasNotLaunched)
{
    VmRun run = good_run();
    run.report.hypervisor = run.receipt.hypervisor = Sha384{};
    expect_refused(judge(run), Link::kReceipt, {"hypervisor is 0000"});
}

TEST_F(Verifier, RefusesAnotherDescriptor)
{
    VmRun run = good_run();
    run.receipt.descriptor = some_digest(0xdd);
    expect_refused(judge(run), Link::kReceipt, {"descriptor", "memory, cores, devices"});
    run = good_run();
    run.report.descriptor = some_digest(0xdd);
    expect_refused(judge(run), Link::kReport, {"descriptor"});
}

TEST_F(Verifier, RefusesAnotherDomainInstanceOrName)
{
    VmRun run = good_run();
    run.report.domain = 2;
    expect_refused(judge(run), Link::kReport, {"domain is 2, expected 1"});
    run = good_run();
    run.report.instance = 2;
    expect_refused(judge(run), Link::kReport, {"instance is 2, expected 1"});
    run = good_run();
    run.receipt.name = "gamma";
    expect_refused(judge(run), Link::kReceipt, {"name is \"gamma\""});
}

TEST_F(Verifier, RefusesADomainThatWasSealedAgainSinceTheReceipt)
{
    VmRun run = good_run();
    run.report.start = 4;
    expect_refused(judge(run), Link::kReport, {"start is 4, expected 3", "sealed again"});
}

TEST_F(Verifier, RefusesReceiptAndReportInEachOthersPlace)
{
    VmRun run = good_run();
    run.report.kind = ReportKind::kReceipt;
    expect_refused(judge(run), Link::kReport, {"is a receipt"});
    run = good_run();
    run.receipt.kind = ReportKind::kDomain;
    expect_refused(judge(run), Link::kReceipt, {"is a domain report"});
}

TEST_F(Verifier, RefusesAnotherKeysName)
{
    VmRun run = good_run();
    run.report.iak.back() ^= 1;
    expect_refused(judge(run), Link::kReport, {"iak is", "iak.crt"});
    run = good_run();
    run.receipt.ek.back() ^= 1;
    expect_refused(judge(run), Link::kReceipt, {"ek is", "ek.crt"});
}

TEST_F(Verifier, RefusesAWeakenedProtectionUnlessItIsAcceptedByName)
{
    VmRun run = good_run();
    run.report.insecure = {"dma-drain", "serial-arbiter"};
    run.receipt.insecure = run.report.insecure;
    expect_refused(judge(run), Link::kReceipt, {"insecure:dma-drain", "--accept"});
    run.reference.accept_insecure = {"dma-drain"};
    expect_refused(judge(run), Link::kReceipt, {"insecure:serial-arbiter"});
    run.reference.accept_insecure = {"serial-arbiter", "dma-drain"};
    const Verdict verdict = judge(run);
    EXPECT_TRUE(verdict.attested) << verdict.reason;
}

TEST_F(Verifier, RefusesATpmThatWasBroughtBackUnlessThatIsAcceptedAndShowsIt)
{
    VmRun run = good_run();
    run.report.insecure = {"restored"};
    run.report.restores = 3;
    run.receipt.insecure = run.report.insecure;
    run.receipt.restores = 3;
    expect_refused(judge(run), Link::kReceipt, {"insecure:restored", "from a snapshot 3 times", "--accept"});
    run.reference.accept_insecure = {"restored"};
    const Verdict verdict = judge(run);
    EXPECT_TRUE(verdict.attested) << verdict.reason;
    EXPECT_EQ(verdict.restores, 3U);
}

// ---- freshness

TEST_F(Verifier, RefusesTheEvidenceOfAnEarlierRun)
{
    const EvidenceFiles earlier =
        collect(world().machine, plan_run(world().machine, world().alpha, world().slb, pattern(32, 200)));
    const VmRun run = good_run();
    expect_refused(verify_vm(earlier, run.reference, world().machine.anchors(), owner_record(world().machine, run)),
                   Link::kReport, {"nonce is " + to_hex(pattern(32, 200)), to_hex(world().nonce)});
}

TEST_F(Verifier, RefusesAnOldNonceInEachPlace)
{
    const Bytes old = pattern(32, 200);
    VmRun run = good_run();
    run.scenario.nonce = old;
    expect_refused(judge(run), Link::kQuote, {"quote.msg", "nonce is " + to_hex(old)});
    run = good_run();
    run.report.nonce = old;
    expect_refused(judge(run), Link::kReport, {"report.cose", "nonce is " + to_hex(old)});
    run = good_run();
    run.receipt.nonce = old;
    expect_refused(judge(run), Link::kReceipt, {"receipt.cose", "nonce is " + to_hex(old)});
}

// ---- the quote

TEST_F(Verifier, RefusesAQuoteThatLeavesPcrsOut)
{
    VmRun run = good_run();
    run.scenario.selections = {{Bank::kSha256, 0xffffff}};
    expect_refused(judge(run), Link::kQuote, {"covers sha256:0xffffff", "sha384"});
    run.scenario.selections = {{Bank::kSha256, 0xfdffff}, {Bank::kSha384, 0xffffff}};
    expect_refused(judge(run), Link::kQuote, {"covers sha256:0xfdffff"});
}

TEST_F(Verifier, RefusesPcrValuesThatWereNotQuoted)
{
    const VmRun run = good_run();
    EvidenceFiles files = collect(world().machine, run);
    PcrFile pcrs = take(parse_pcr_file(files.pcrs));
    pcrs.values[Bank::kSha256][17][0] ^= 1;
    files.pcrs = encode_pcr_file(pcrs);
    expect_refused(verify_vm(files, run.reference, world().machine.anchors(), owner_record(world().machine, run)),
                   Link::kQuote, {"PCR digest", "pcrs.bin"});
}

// ---- every byte counts

struct FileOfEvidence {
    const char *name;
    Bytes EvidenceFiles::*member;
    bool every_bit; // no bit may change; otherwise those that mean nothing may
};

class EveryFile : public Verifier, public ::testing::WithParamInterface<FileOfEvidence> {};

TEST_P(EveryFile, MayNotChange)
{
    const VmRun run = good_run();
    const EvidenceFiles good = collect(world().machine, run);
    const OwnerRecord owner = owner_record(world().machine, run);
    const TrustAnchors anchors = world().machine.anchors();
    const Verdict attested = verify_vm(good, run.reference, anchors, owner);
    ASSERT_TRUE(attested.attested) << attested.reason;
    const Bytes &bytes = good.*GetParam().member;
    const std::size_t step = std::max<std::size_t>(1, bytes.size() / 150);
    for (std::size_t at = 0; at < bytes.size(); at += step) {
        EvidenceFiles spoiled = good;
        (spoiled.*GetParam().member)[at] ^= static_cast<std::uint8_t>(1u << (at % 8));
        const Verdict verdict = verify_vm(spoiled, run.reference, anchors, owner);
        if (GetParam().every_bit) {
            EXPECT_FALSE(verdict.attested) << "byte " << at;
        } else if (verdict.attested) {
            EXPECT_EQ(verdict.pcrs, attested.pcrs) << "byte " << at;
        }
        EXPECT_NE(verdict.attested, !verdict.reason.empty());
    }
    for (std::size_t size = 0; size < bytes.size(); size += step) {
        EvidenceFiles spoiled = good;
        (spoiled.*GetParam().member).resize(size);
        const Verdict verdict = verify_vm(spoiled, run.reference, anchors, owner);
        const bool only_the_newline = GetParam().member == &EvidenceFiles::ak_pem && size + 1 == bytes.size();
        EXPECT_TRUE(!verdict.attested || only_the_newline) << "cut to " << size;
    }
    EvidenceFiles spoiled = good;
    (spoiled.*GetParam().member).push_back(0);
    EXPECT_TRUE(!verify_vm(spoiled, run.reference, anchors, owner).attested || !GetParam().every_bit);
}

INSTANTIATE_TEST_SUITE_P(Evidence, EveryFile,
                         ::testing::Values(FileOfEvidence{"ak_pem", &EvidenceFiles::ak_pem, false},
                                           FileOfEvidence{"quote_msg", &EvidenceFiles::quote_msg, true},
                                           FileOfEvidence{"quote_sig", &EvidenceFiles::quote_sig, true},
                                           FileOfEvidence{"pcrs_bin", &EvidenceFiles::pcrs,
                                                          false}, // it has unused bytes
                                           FileOfEvidence{"nonce", &EvidenceFiles::nonce, true},
                                           FileOfEvidence{"eventlog_bin", &EvidenceFiles::event_log,
                                                          false}, // its header says more than we need
                                           FileOfEvidence{"ek_crt", &EvidenceFiles::ek_crt, true},
                                           FileOfEvidence{"ek_rsa_crt", &EvidenceFiles::ek_rsa_crt, true},
                                           FileOfEvidence{"iak_crt", &EvidenceFiles::iak_crt, true},
                                           FileOfEvidence{"report_cose", &EvidenceFiles::report, true}),
                         [](const auto &one) { return std::string(one.param.name); });

// ---- the folder

TEST_F(Verifier, ReadsFoldersAndNamesWhatIsMissing)
{
    const TemporaryFolder folder;
    const VmRun run = good_run();
    const EvidenceFiles files = collect(world().machine, run);
    write_evidence(folder.path() / "alpha", files);
    write_owner(folder.path() / "owner", "alpha", owner_record(world().machine, run));
    write_owner(folder.path() / "owner", "beta", owner_record(world().machine, good_run(world().beta)));
    const auto judge_all = [&] {
        return verify_folder(folder.path(), folder.path() / "owner", {world().alpha, world().beta},
                             world().machine.anchors());
    };
    auto verdicts = judge_all();
    ASSERT_EQ(verdicts.size(), 2U);
    EXPECT_TRUE(verdicts[0].attested) << verdicts[0].reason;
    expect_refused(verdicts[1], Link::kFiles, {"beta", "is not there"});

    for (const char *name : {"ak.pem", "quote.msg", "quote.sig", "pcrs.bin", "nonce", "eventlog.bin", "ek.crt",
                             "ek-rsa.crt", "iak.crt", "report.cose"}) {
        fs::rename(folder.path() / "alpha" / name, folder.path() / "kept");
        expect_refused(judge_all()[0], Link::kFiles, {name, "No such file"});
        fs::create_symlink(folder.path() / "kept", folder.path() / "alpha" / name);
        expect_refused(judge_all()[0], Link::kFiles, {name, "symbolic link"});
        fs::remove(folder.path() / "alpha" / name);
        fs::rename(folder.path() / "kept", folder.path() / "alpha" / name);
    }
    EXPECT_TRUE(judge_all()[0].attested);

    fs::remove(folder.path() / "owner/alpha/receipt.cose");
    expect_refused(judge_all()[0], Link::kFiles, {"owner/alpha/receipt.cose"});
}

TEST_F(Verifier, NeverWaitsForAFileThatIsNoFile)
{
    const TemporaryFolder folder;
    const VmRun run = good_run();
    write_evidence(folder.path() / "alpha", collect(world().machine, run));
    write_owner(folder.path() / "owner", "alpha", owner_record(world().machine, run));
    fs::remove(folder.path() / "alpha/quote.msg");
    ASSERT_EQ(::mkfifo((folder.path() / "alpha/quote.msg").c_str(), 0600), 0);
    expect_refused(verify_folder(folder.path(), folder.path() / "owner", {world().alpha}, world().machine.anchors())[0],
                   Link::kFiles, {"quote.msg", "not a regular file"});
    fs::remove(folder.path() / "alpha/quote.msg");
    fs::create_directory(folder.path() / "alpha/quote.msg");
    expect_refused(verify_folder(folder.path(), folder.path() / "owner", {world().alpha}, world().machine.anchors())[0],
                   Link::kFiles, {"quote.msg"});
}

TEST(TrustAnchorsFile, TakesOnlyRootsAndNoKeys)
{
    const TemporaryFolder folder;
    const Machine machine = Machine::make(folder.path(), 1);
    const auto read = [](const fs::path &path) { return take(read_file(path, 1 << 16)); };
    EXPECT_TRUE(TrustAnchors::from_pem(read(machine.public_folder() / "manufacturer.pem")));
    const auto chain = TrustAnchors::from_pem(read(machine.public_folder() / "chain.pem"));
    ASSERT_FALSE(chain);
    EXPECT_NE(chain.error().find("is not a root"), std::string::npos);
    Bytes with_key = read(machine.public_folder() / "manufacturer.pem");
    const Bytes key = read(machine.private_folder() / "platform.key");
    with_key.insert(with_key.end(), key.begin(), key.end());
    const auto refused = TrustAnchors::from_pem(with_key);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().find("private key"), std::string::npos);
    EXPECT_FALSE(TrustAnchors::from_pem({}));
}

} // namespace banyan::attest::testing
