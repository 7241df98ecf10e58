// SPDX-License-Identifier: GPL-2.0-or-later
#include <gtest/gtest.h>

#include "fake_host.hpp"

// Domain reports and receipts.

namespace banyan::domain {
namespace {

using dt::ReportStatus;

ReportStatus report_status(Bench &b, std::uint32_t domain)
{
    return static_cast<ReportStatus>(b.own(domain, dt::own::kReportStatus));
}

std::string read_report(Bench &b, std::uint32_t domain)
{
    std::string text;
    const auto size = static_cast<std::uint32_t>(b.own(domain, dt::own::kReportSize));
    for (std::uint32_t i = 0; i < size; ++i) {
        text.push_back(static_cast<char>(b.own(domain, dt::own::kReportData + i, 1)));
    }
    return text;
}

TEST(Report, SaysWhatTheDomainIs)
{
    Bench b;
    b.table.add_insecure(4);
    dt::Descriptor d = good_descriptor(1);
    d.vtpm_instance = 7;
    d.flags = dt::flag::kDebug;
    ASSERT_EQ(b.seal(1, d), dt::Status::kOk);
    ASSERT_TRUE(b.start(1, 1));
    Digest hypervisor{};
    hypervisor[47] = 9;
    b.table.launched(0, hypervisor, {});
    b.table.launched(1, Digest{}, {});
    b.own_write(1, dt::own::kNonce, 0x0807'0605'0403'0201, 8);
    EXPECT_EQ(report_status(b, 1), ReportStatus::kIdle);
    b.own_write(1, dt::own::kReportStart, 8);
    EXPECT_EQ(report_status(b, 1), ReportStatus::kReady);
    EXPECT_EQ(read_report(b, 1), "signed");
    EXPECT_EQ(b.own(1, dt::own::kReportData + 6, 1), 0U);

    const ReportFacts &f = b.host.facts;
    EXPECT_TRUE(b.host.called("sign 1"));
    EXPECT_FALSE(f.receipt);
    EXPECT_EQ(f.domain, 1U);
    EXPECT_EQ(f.instance, 7U);
    EXPECT_EQ(f.flags, dt::flag::kDebug);
    EXPECT_EQ(f.insecure, 4U);
    EXPECT_EQ(f.start_count, 1U);
    EXPECT_EQ(f.launch_count, 1U);
    EXPECT_EQ(f.digest, b.host.sha384(std::as_bytes(std::span(&d, 1))));
    EXPECT_EQ(f.hypervisor, hypervisor);
    EXPECT_EQ(f.nonce_size, 8U);
    EXPECT_EQ(f.nonce[7], 8);
    EXPECT_STREQ(f.name.data(), "vm-1");
}

TEST(Report, OfTheHostHasNoDescriptor)
{
    Bench b;
    b.own_write(0, dt::own::kReportStart, 64);
    EXPECT_EQ(report_status(b, 0), ReportStatus::kReady);
    EXPECT_TRUE(b.host.called("sign 0"));
    EXPECT_EQ(b.host.facts.instance, 0U);
    EXPECT_EQ(b.host.facts.digest, Digest{});
    EXPECT_EQ(b.host.facts.hypervisor, Digest{}) << "not launched";
    EXPECT_EQ(b.host.facts.name[0], 0);
    Digest slb{};
    slb[0] = 1;
    b.table.launched(0, slb, {});
    b.own_write(0, dt::own::kReportStart, 64);
    EXPECT_EQ(b.host.facts.hypervisor, slb);
    EXPECT_EQ(b.host.facts.launch_count, 1U);
    b.table.reset();
    EXPECT_EQ(report_status(b, 0), ReportStatus::kIdle);
    b.own_write(0, dt::own::kReportStart, 64);
    EXPECT_EQ(b.host.facts.hypervisor, Digest{}) << "who runs after a reset was not launched";
    EXPECT_EQ(b.host.facts.launch_count, 0U);
}

TEST(Report, IsBusyUntilItIsSigned)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    b.host.signature = Signature::kBusy;
    b.own_write(1, dt::own::kNonce, 0xAA, 8);
    b.own_write(1, dt::own::kReportStart, 8);
    EXPECT_EQ(report_status(b, 1), ReportStatus::kBusy);
    EXPECT_EQ(b.own(1, dt::own::kReportSize), 0U);
    EXPECT_EQ(b.own(1, dt::own::kReportData, 8), 0U);
    b.own_write(1, dt::own::kReportStart, 4); // ignored
    b.own_write(1, dt::own::kNonce, 0xBB, 8); // refused
    EXPECT_EQ(b.own(1, dt::own::kNonce, 8), 0xAAU);
    EXPECT_EQ(b.host.count("sign"), 1);
    b.host.signature = Signature::kReady;
    EXPECT_EQ(b.own(1, dt::own::kReportSize), 6U) << "reading the size polls too";
    EXPECT_EQ(report_status(b, 1), ReportStatus::kReady);
    b.own_write(1, dt::own::kReportStart, 4);
    EXPECT_EQ(b.host.count("sign"), 2);
}

TEST(Report, RefusesANonceOfNoSize)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    for (const std::uint32_t size : {0U, 65U, 0xFFFF'FFFFU}) {
        b.own_write(1, dt::own::kReportStart, size);
        EXPECT_EQ(report_status(b, 1), ReportStatus::kFailed);
    }
    EXPECT_EQ(b.host.count("sign"), 0);
    b.own_write(1, dt::own::kReportStart, 64);
    EXPECT_EQ(report_status(b, 1), ReportStatus::kReady);
}

TEST(Report, FailsWhenTheSignerDoes)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    b.host.sign_answer = false;
    b.own_write(1, dt::own::kReportStart, 8);
    EXPECT_EQ(report_status(b, 1), ReportStatus::kFailed);
    b.host.sign_answer = true;
    b.host.signature = Signature::kFailed;
    b.own_write(1, dt::own::kReportStart, 8);
    EXPECT_EQ(report_status(b, 1), ReportStatus::kFailed);
    EXPECT_EQ(b.own(1, dt::own::kReportData, 8), 0U);
    b.host.signature = Signature::kReady;
    b.host.statement_size = dt::own::kReportMax + 1; // a signer that says nonsense
    b.own_write(1, dt::own::kReportStart, 8);
    EXPECT_EQ(report_status(b, 1), ReportStatus::kFailed);
}

TEST(Report, OfAnEarlierLifeIsNeverShownToTheNext)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    b.own_write(1, dt::own::kNonce, 0xAA, 8);
    b.host.signature = Signature::kBusy;
    b.own_write(1, dt::own::kReportStart, 8);
    b.table.exit(1, 1, ExitCause::kShutdown);
    b.command(1, dt::Command::kDelete);
    ASSERT_TRUE(b.run(1));
    EXPECT_EQ(report_status(b, 1), ReportStatus::kIdle);
    EXPECT_EQ(b.own(1, dt::own::kNonce, 8), 0U);
    EXPECT_EQ(b.host.count("sign"), 1);
    b.own_write(1, dt::own::kReportStart, 8); // the slot still works for the earlier life
    EXPECT_EQ(b.host.count("sign"), 1);
    EXPECT_EQ(report_status(b, 1), ReportStatus::kBusy);
    b.host.signature = Signature::kReady;
    b.host.statement = "stale!";
    EXPECT_EQ(report_status(b, 1), ReportStatus::kBusy) << "that was the earlier one's";
    EXPECT_EQ(b.host.count("sign"), 2);
    EXPECT_EQ(b.host.facts.start_count, 2U);
    b.host.statement = "fresh!";
    EXPECT_EQ(report_status(b, 1), ReportStatus::kReady);
    EXPECT_EQ(read_report(b, 1), "fresh!");
}

TEST(Receipt, IsSignedFromSealOnOverTheHostsNonce)
{
    Bench b;
    b.command(1, dt::Command::kCreate);
    b.control_write(dt::control::kNonce + 56, 0x1122'3344, 8); // before the seal will do
    b.control_write(dt::control::kNonceSize, 64);
    b.write_descriptor(1, good_descriptor(1));
    EXPECT_EQ(b.command(1, dt::Command::kReceipt), dt::Status::kBadState) << "a draft";
    ASSERT_EQ(b.command(1, dt::Command::kSeal), dt::Status::kOk);
    b.host.signature = Signature::kBusy;
    EXPECT_EQ(b.command(1, dt::Command::kReceipt), dt::Status::kOk);
    EXPECT_TRUE(b.host.called("sign 17"));
    EXPECT_TRUE(b.host.facts.receipt);
    EXPECT_EQ(b.host.facts.nonce_size, 64U);
    EXPECT_EQ(b.host.facts.nonce[56], 0x44);
    EXPECT_EQ(b.control(dt::control::kReceiptStatus), static_cast<std::uint64_t>(ReportStatus::kBusy));
    b.select(2);
    EXPECT_EQ(b.control(dt::control::kReceiptStatus), 0U) << "each domain has its own";
    b.select(1);
    b.host.signature = Signature::kReady;
    EXPECT_EQ(b.control(dt::control::kReceiptStatus), static_cast<std::uint64_t>(ReportStatus::kReady));
    EXPECT_EQ(b.control(dt::control::kReceiptSize), 6U);
    EXPECT_EQ(b.control(dt::control::kReceiptData, 1), static_cast<std::uint64_t>('s'));
}

TEST(Receipt, NeedsANonce)
{
    Bench b;
    ASSERT_EQ(b.seal(1), dt::Status::kOk);
    b.command(1, dt::Command::kReceipt);
    EXPECT_EQ(b.control(dt::control::kReceiptStatus), static_cast<std::uint64_t>(ReportStatus::kFailed));
    EXPECT_EQ(b.host.count("sign"), 0);
}

TEST(Receipt, DoesNotMixWithTheDomainsReport)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    b.select(1);
    b.control_write(dt::control::kNonceSize, 4);
    b.host.signature = Signature::kBusy;
    b.command(1, dt::Command::kReceipt);
    b.own_write(1, dt::own::kReportStart, 8);
    EXPECT_TRUE(b.host.called("sign 17") && b.host.called("sign 1"));
    b.host.signature = Signature::kReady;
    EXPECT_EQ(report_status(b, 1), ReportStatus::kReady);
    EXPECT_EQ(b.control(dt::control::kReceiptStatus), static_cast<std::uint64_t>(ReportStatus::kReady));
}

} // namespace
} // namespace banyan::domain
