// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/qemu_command.hpp"

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/unit/tool/fixture.hpp"

namespace banyan::tool {
namespace {

using test::BuildFolder;
using test::kTwoVms;

bool has_pair(const std::vector<std::string> &all, const std::string &option, const std::string &value)
{
    for (std::size_t i = 0; i + 1 < all.size(); ++i) {
        if (all[i] == option && all[i + 1] == value) {
            return true;
        }
    }
    return false;
}

TEST(QemuCommand, DescribesTheServer)
{
    const BuildFolder build;
    Machine machine = build.machine(kTwoVms);
    machine.platform_private = "/odd,name/private";
    machine.hash_rate = 0;
    machine.launch_arbiter = "serial";
    const auto plan = make_plan(machine);
    ASSERT_TRUE(plan);
    const auto all = qemu_command(*plan, {"/b/qemu", "/b/engine", {"/fw"}, {"-trace", "x"}});
    EXPECT_EQ(all.front(), "/b/qemu");
    EXPECT_EQ(all.back(), "x");
    EXPECT_TRUE(has_pair(all, "-L", "/fw"));
    EXPECT_TRUE(has_pair(all, "-M", "q35,smm=off,max-ram-below-4g=1024M"));
    EXPECT_TRUE(has_pair(all, "-smp", "3"));
    EXPECT_TRUE(has_pair(all, "-m", "2432M"));
    EXPECT_TRUE(has_pair(all, "-device",
                         "banyan-vtpm,id=vtpm,engine=/b/engine,platform=/odd,,name/private,instances=3,hash-rate=0"));
    EXPECT_TRUE(has_pair(all, "-device", "banyan-domains,id=domains,launch-arbiter=serial"));
    EXPECT_TRUE(has_pair(all, "-device", "pcie-root-port,id=rp2,bus=pcie.0,addr=0x6.0,chassis=2,slot=2"));
    EXPECT_TRUE(has_pair(all, "-device", "virtserialport,bus=vs2.0,name=banyan.evidence.2,chardev=agent2"));
    EXPECT_TRUE(has_pair(all, "-chardev", "file,id=con1,path=evidence/consoles/alpha.log"));
    const auto initrd = std::find(all.begin(), all.end(), "-initrd");
    ASSERT_NE(initrd, all.end());
    EXPECT_EQ((initrd + 1)->substr(0, 10), "m0 file-0,");
    EXPECT_EQ(std::count(initrd[1].begin(), initrd[1].end(), ','), static_cast<long>(plan->modules.size()) - 1);
}

TEST(QemuCommand, GivesAnInstanceWhatItsTpmShallLookLike)
{
    const BuildFolder build;
    const auto plan = make_plan(build.machine(R"(schema = 1
[[vm]]
name = "a"
kernel = "debian:amd64"
interface = "crb"
[[vm]]
name = "b"
kernel = "debian:amd64"
banks = ["sha256", "sha384"]
tpms = 4
[[vm.further_tpm]]
[[vm.further_tpm]]
did_vid = 0x22211014
banks = ["sha1"]
[[vm]]
name = "c"
kernel = "debian:amd64"
)"));
    ASSERT_TRUE(plan) << plan.error().text;
    const auto all = qemu_command(*plan, {"/b/qemu", "/b/engine", {}, {}});
    std::vector<std::string> setups; // of the devices between the chip and the domains, in their order
    auto at = std::find_if(all.begin(), all.end(), [](const auto &word) { return word.starts_with("banyan-vtpm,"); });
    for (; at != all.end() && !at->starts_with("banyan-domains"); ++at) {
        if (at->starts_with("banyan-vtpm-setup")) {
            setups.push_back(*at);
        }
    }
    EXPECT_EQ(setups, (std::vector<std::string>{"banyan-vtpm-setup,instance=1,interface=crb",
                                                "banyan-vtpm-setup,instance=2,banks=sha256+sha384",
                                                "banyan-vtpm-setup,instance=25,banks=sha1,did-vid=0x22211014"}));
    EXPECT_NE(at, all.end());
    EXPECT_EQ(std::count_if(all.begin(), all.end(), [](const auto &w) { return w.starts_with("banyan-vtpm-setup"); }),
              3);
}

TEST(RunFolderOfQemu, HoldsAModuleOfEachName)
{
    const BuildFolder build;
    const auto plan = make_plan(build.machine(kTwoVms));
    ASSERT_TRUE(plan);
    const std::filesystem::path folder = build.path() / "run";
    std::filesystem::create_directories(folder / "ev");
    const auto done = fill_run_folder(*plan, folder, folder / "ev");
    ASSERT_TRUE(done) << done.error().text;
    for (std::size_t i = 0; i < plan->modules.size(); ++i) {
        const Module &module = plan->modules[i];
        const std::filesystem::path file = folder / run_file::module(i);
        if (module.file.empty()) {
            EXPECT_EQ(std::filesystem::file_size(file), module.bytes.size());
        } else {
            EXPECT_TRUE(std::filesystem::equivalent(file, module.file));
        }
    }
}

} // namespace
} // namespace banyan::tool
