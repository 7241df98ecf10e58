// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/evidence_folder.hpp"

#include <gtest/gtest.h>

#include "tests/unit/tool/fixture.hpp"

namespace banyan::tool {
namespace {

namespace fs = std::filesystem;
using test::BuildFolder;
using test::kTwoVms;

TEST(EvidenceFolder, IsEmptiedOfAnEarlierRunAndOfNothingElse)
{
    const BuildFolder build;
    const auto plan = make_plan(build.machine(kTwoVms));
    ASSERT_TRUE(plan);
    const fs::path folder = build.path() / "ev/deep";
    ASSERT_TRUE(prepare_evidence(folder, *plan));
    EXPECT_TRUE(fs::is_directory(folder / "owner/alpha"));
    EXPECT_TRUE(fs::is_directory(folder / "beta"));
    EXPECT_TRUE(fs::is_directory(folder / "consoles"));

    build.put("ev/deep/beta/quote.msg", "old");
    build.put("ev/deep/qemu.log", "old");
    ASSERT_TRUE(prepare_evidence(folder, *plan));
    EXPECT_FALSE(fs::exists(folder / "beta/quote.msg"));
    EXPECT_FALSE(fs::exists(folder / "qemu.log"));

    build.put("ev/deep/thesis.tex", "precious");
    const auto refused = prepare_evidence(folder, *plan);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().exit, Exit::kUsage);
    EXPECT_NE(refused.error().text.find("thesis.tex"), std::string::npos);
    EXPECT_TRUE(fs::exists(folder / "thesis.tex"));
}

TEST(EvidenceFolder, IsNotMadeInAFolderOfSomebodyElse)
{
    const BuildFolder build;
    const auto plan = make_plan(build.machine(kTwoVms));
    ASSERT_TRUE(plan);
    build.put("other/owner/run.json", "{\"vms\": [{\"name\": \"../..\"}, {\"name\": 3}]}");
    EXPECT_FALSE(prepare_evidence(build.path(), *plan));
    EXPECT_TRUE(fs::exists(build.path() / "images"));
    EXPECT_TRUE(prepare_evidence(build.path() / "other", *plan));
    EXPECT_TRUE(fs::exists(build.path() / "images"));
}

} // namespace
} // namespace banyan::tool
