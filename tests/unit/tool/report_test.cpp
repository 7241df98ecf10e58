// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/report.hpp"

#include <gtest/gtest.h>

#include "tests/unit/tool/fixture.hpp"

namespace banyan::tool {
namespace {

using nlohmann::json;
using test::BuildFolder;
using test::kTwoVms;

class ReportOfTwo : public ::testing::Test {
protected:
    ReportOfTwo() : plan_(*make_plan(build_.machine(kTwoVms)))
    {
        session_.vms = {{"alpha", true, true, "poweroff", {}, {}}, {"beta", true, true, "poweroff", {}, {}}};
        session_.report = json::parse(R"({"insecure": 0, "domains": [{"domain": 1, "name": "alpha", "extra": [],
            "launch": {"start_ns": 1000000, "hash_start_ns": 2, "hash_end_ns": 3, "entry_ns": 251000000,
                       "wait_for_other_domain_ns": 0, "more": 1},
            "exits": {"running": 0, "final": 1}, "denied": {"port": 390, "mmio": 2, "interrupt": 0, "msr": 1, "dma": 0}},
            {"domain": 2, "launch": null}, "noise"]})");
        for (Verdict &verdict : verdicts_) {
            verdict.kind = Verdict::Kind::kAttested;
            verdict.pcrs["sha256"]["17"] = "0123456789abcdef0123";
        }
    }

    RunReport report() { return make_report(plan_, session_, verdicts_, {"/q", "aa", 1.5, true, "/ev"}); }

    BuildFolder build_;
    Plan plan_;
    SessionResult session_;
    std::vector<Verdict> verdicts_{2};
};

TEST_F(ReportOfTwo, HoldsWhatTheDomainTableCounted)
{
    const RunReport r = report();
    EXPECT_EQ(r.exit, Exit::kOk);
    const json &alpha = r.json["vms"][0];
    EXPECT_EQ(alpha["verdict"], "attested");
    EXPECT_EQ(alpha["launch"]["entry_ns"], 251000000);
    EXPECT_EQ(alpha["launch"].size(), 5u);
    EXPECT_EQ(alpha["exits"]["final"], 1);
    EXPECT_EQ(alpha["denied"]["port"], 390);
    EXPECT_EQ(alpha["ended"], "poweroff");
    EXPECT_TRUE(r.json["vms"][1]["launch"]["start_ns"].is_null());
    EXPECT_EQ(r.json["schema"], 1);
    EXPECT_EQ(r.json["exit"], 0);
    EXPECT_EQ(r.json["qemu"]["sha256"], "aa");
}

TEST_F(ReportOfTwo, RefusedFailedAndHungHaveTheirStatus)
{
    verdicts_[0].kind = Verdict::Kind::kRefused;
    verdicts_[0].reason = "pcr: PCR 17 differs";
    EXPECT_EQ(report().exit, Exit::kRefused);
    session_.vms[1].failure = Failure{Exit::kVmFailed, "it fell"};
    EXPECT_EQ(report().exit, Exit::kVmFailed);
    session_.vms[1].failure = Failure{Exit::kTimeout, "it hung"};
    EXPECT_EQ(report().exit, Exit::kTimeout);
    EXPECT_EQ(report().json["vms"][1]["reason"], "it hung");
    session_.failure = Failure{Exit::kInterrupted, "interrupted"};
    EXPECT_EQ(report().exit, Exit::kInterrupted);
}

TEST_F(ReportOfTwo, TableIsAlignedAndGivesReasons)
{
    verdicts_[1].kind = Verdict::Kind::kRefused;
    verdicts_[1].reason = "pcr: PCR 17 differs";
    EXPECT_EQ(render_table(report().json),
              "name   kernel              PCR17             verdict      launch  exits running  denied\n"
              "alpha  debian:amd64        0123456789abcdef  attested  250.00 ms              0     393\n"
              "beta   debian:cloud-amd64  0123456789abcdef  refused           -              -       -\n"
              "beta: pcr: PCR 17 differs\n");
}

TEST_F(ReportOfTwo, NamesWhatIsInsecure)
{
    session_.report["insecure"] = 2;
    EXPECT_EQ(report().json["insecure"], json::array({"dma-drain"}));
    session_.report["insecure"] = json::array({"debug"});
    EXPECT_EQ(report().json["insecure"], json::array({"debug"}));
}

TEST_F(ReportOfTwo, DoesWithoutAReportOfTheDomainTable)
{
    session_.report = nullptr;
    EXPECT_TRUE(report().json["vms"][0]["denied"]["port"].is_null());
    for (const char *odd : {"{}", "{\"domains\": 3}", "{\"domains\": [{\"domain\": -1}]}", "{\"domains\": [[]]}"}) {
        session_.report = json::parse(odd);
        EXPECT_TRUE(report().json["vms"][0]["exits"]["running"].is_null()) << odd;
    }
}

} // namespace
} // namespace banyan::tool
