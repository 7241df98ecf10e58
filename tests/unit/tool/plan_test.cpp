// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/plan.hpp"

#include <cstring>
#include <set>

#include <gtest/gtest.h>
#include <openssl/sha.h>

#include "tests/unit/tool/fixture.hpp"

namespace banyan::tool {
namespace {

using test::BuildFolder;
using test::kTwoVms;

class PlanOfTwo : public ::testing::Test {
protected:
    void SetUp() override
    {
        auto plan = make_plan(build_.machine(kTwoVms));
        ASSERT_TRUE(plan) << plan.error().text;
        plan_ = std::move(*plan);
        ASSERT_EQ(plan_.vms.size(), 2u);
    }

    BuildFolder build_;
    Plan plan_;
};

TEST_F(PlanOfTwo, GivesEachVmItsOwnSlice)
{
    EXPECT_EQ(plan_.vms[0].slice, 0x1'0000'0000u);
    EXPECT_EQ(plan_.vms[1].slice, 0x1'1800'0000u);
    EXPECT_EQ(plan_.memory, (1024u + 384u + 1024u) * 0x10'0000ull);
    const dt::Descriptor &beta = plan_.vms[1].descriptor;
    ASSERT_EQ(beta.range_count, 2u);
    EXPECT_EQ(beta.ranges[0].gpa, 0u);
    EXPECT_EQ(beta.ranges[0].hpa, 0x1'1800'0000u);
    EXPECT_EQ(beta.ranges[0].size, 0xA'0000u);
    EXPECT_EQ(beta.ranges[1].gpa, 0x10'0000u);
    EXPECT_EQ(beta.ranges[1].hpa, 0x1'1810'0000u);
    EXPECT_EQ(beta.ranges[1].size, 0x3FF0'0000u);
}

TEST_F(PlanOfTwo, DescriptorNamesCoreInstanceBusAndWindows)
{
    const dt::Descriptor &d = plan_.vms[1].descriptor;
    EXPECT_STREQ(d.name, "beta");
    EXPECT_EQ(d.core_mask, 1u << 2);
    EXPECT_EQ(d.boot_core, 2u);
    EXPECT_EQ(d.vtpm_instance, 2u);
    EXPECT_EQ(d.flags, 0u);
    EXPECT_EQ(d.entry.eip, boot::kStage0);
    ASSERT_EQ(d.window_count, 2u);
    EXPECT_EQ(d.windows[0].base, 0xB120'0000u);
    EXPECT_EQ(d.windows[0].size, 0x10'0000u);
    EXPECT_EQ(d.windows[1].base, 0xC200'0000u);
    EXPECT_EQ(d.windows[1].size, 0x200'0000u);
    ASSERT_EQ(d.root_port_count, 1u);
    EXPECT_EQ(d.root_ports[0].devfn, 6u << 3);
    EXPECT_EQ(d.root_ports[0].secondary, 0x12u);
}

TEST_F(PlanOfTwo, NothingOfOneVmIsAnothers)
{
    const dt::Descriptor &a = plan_.vms[0].descriptor;
    const dt::Descriptor &b = plan_.vms[1].descriptor;
    EXPECT_EQ(a.core_mask & b.core_mask, 0u);
    EXPECT_NE(a.vtpm_instance, b.vtpm_instance);
    EXPECT_NE(a.root_ports[0].devfn, b.root_ports[0].devfn);
    for (unsigned i = 0; i < 2; ++i) {
        for (unsigned j = 0; j < 2; ++j) {
            EXPECT_TRUE(a.ranges[i].hpa + a.ranges[i].size <= b.ranges[j].hpa ||
                        b.ranges[j].hpa + b.ranges[j].size <= a.ranges[i].hpa);
            EXPECT_TRUE(a.windows[i].base + a.windows[i].size <= b.windows[j].base ||
                        b.windows[j].base + b.windows[j].size <= a.windows[i].base);
        }
    }
}

TEST_F(PlanOfTwo, MemoryMapAscendsAndCallsEachPartByItsKind)
{
    const boot::BootInfo &info = plan_.vms[0].boot_info;
    EXPECT_EQ(info.magic, boot::kBootInfoMagic);
    EXPECT_EQ(info.ram_end, 384u << 20);
    ASSERT_EQ(info.e820_count, 6u);
    std::uint64_t end = 0x1000; // page 0 is not offered
    for (unsigned i = 0; i < info.e820_count; ++i) {
        EXPECT_GE(info.e820[i].base, end);
        EXPECT_GT(info.e820[i].size, 0u);
        end = info.e820[i].base + info.e820[i].size;
    }
    const auto type_of = [&](std::uint64_t address) {
        for (unsigned i = 0; i < info.e820_count; ++i) {
            if (address >= info.e820[i].base && address < info.e820[i].base + info.e820[i].size) {
                return static_cast<int>(info.e820[i].type);
            }
        }
        return 0;
    };
    EXPECT_EQ(type_of(0), 0);
    EXPECT_EQ(type_of(boot::kZeroPage), 1);
    EXPECT_EQ(type_of(boot::kBootInfo), 1);
    EXPECT_EQ(type_of(boot::kAcpi), 3);
    EXPECT_EQ(type_of(0xB'0000), 0);
    EXPECT_EQ(type_of(boot::kKernelRaw), 1);
    EXPECT_EQ(type_of(info.log.base), 4);
    EXPECT_EQ(type_of(0xB110'0000), 2);
}

TEST_F(PlanOfTwo, ImagesLieApartAndInRam)
{
    for (const VmPlan &vm : plan_.vms) {
        const boot::BootInfo &info = vm.boot_info;
        EXPECT_EQ(info.kernel.base, boot::kKernelRaw);
        EXPECT_EQ(info.kernel.size, std::filesystem::file_size(vm.vm.kernel));
        EXPECT_EQ(info.initrd.size, std::filesystem::file_size(vm.vm.initrd));
        EXPECT_EQ(info.initrd.base % 4096, 0u);
        EXPECT_GE(info.initrd.base, info.kernel.base + info.kernel.size);
        EXPECT_LE(info.initrd.base + info.initrd.size, info.log.base);
        EXPECT_EQ(info.log.base + info.log.size, vm.vm.memory);
        EXPECT_EQ(info.acpi.size, vm.acpi.size());
    }
}

TEST_F(PlanOfTwo, EveryPlacementNamesAModuleAndFilesAreSharedOnce)
{
    std::set<std::string> names;
    for (const Module &module : plan_.modules) {
        EXPECT_TRUE(names.insert(module.name).second) << module.name;
        EXPECT_LT(module.name.size(), mgmt::kModuleName);
    }
    EXPECT_EQ(plan_.modules.size(), 1u + 1u + 2u * 2u + 2u * 3u)
        << "stage 0, loader, two kernels and initrds, three each";
    for (const VmPlan &vm : plan_.vms) {
        EXPECT_EQ(vm.placements.size(), 7u);
        for (const mgmt::Placement &placement : vm.placements) {
            EXPECT_EQ(names.count(placement.module), 1u) << placement.module;
        }
    }
}

TEST_F(PlanOfTwo, IsTheSameEachTimeAndWithFewerVms)
{
    Machine machine = build_.machine(kTwoVms);
    const auto again = make_plan(machine);
    machine.vms.resize(1);
    const auto fewer = make_plan(machine);
    ASSERT_TRUE(again && fewer);
    EXPECT_EQ(bytes_of(again->vms[1].descriptor), bytes_of(plan_.vms[1].descriptor));
    EXPECT_EQ(bytes_of(fewer->vms[0].descriptor), bytes_of(plan_.vms[0].descriptor));
    EXPECT_EQ(bytes_of(fewer->vms[0].boot_info), bytes_of(plan_.vms[0].boot_info));
    EXPECT_EQ(fewer->vms[0].acpi, plan_.vms[0].acpi);
}

TEST_F(PlanOfTwo, DescriptorBytesDoNotChangeUnnoticed)
{
    // A changed digest means that every reference value out there is void. It must be meant.
    const Bytes bytes = bytes_of(plan_.vms[0].descriptor);
    ASSERT_EQ(bytes.size(), 840u);
    std::array<unsigned char, SHA384_DIGEST_LENGTH> digest{};
    SHA384(bytes.data(), bytes.size(), digest.data());
    std::string hex;
    for (const unsigned char byte : digest) {
        constexpr char kDigits[] = "0123456789abcdef";
        hex += kDigits[byte >> 4];
        hex += kDigits[byte & 15];
    }
    EXPECT_EQ(hex, "e01b0d03980a971da3e61df68ea7698cc8987f9c5bd1868c8def5d7911b42c0a7dac2584c9d6fdaf46d09719901ef543");
}

TEST(Plan, FurtherTpmsAreInstancesThatNoOtherVmHas)
{
    const BuildFolder build;
    const auto plan = make_plan(build.machine(R"(schema = 1
[[vm]]
name = "a"
kernel = "debian:amd64"
tpms = 3
[[vm]]
name = "b"
kernel = "debian:amd64"
[[vm]]
name = "c"
kernel = "debian:amd64"
tpms = 9
)"));
    ASSERT_TRUE(plan) << plan.error().text;
    const auto further = [&](std::size_t vm) {
        return std::vector<std::uint32_t>(std::begin(plan->vms[vm].descriptor.further_vtpms),
                                          std::end(plan->vms[vm].descriptor.further_vtpms));
    };
    EXPECT_EQ(further(0), (std::vector<std::uint32_t>{16, 17, 0, 0, 0, 0, 0, 0}));
    EXPECT_EQ(further(1), std::vector<std::uint32_t>(8));
    EXPECT_EQ(further(2), (std::vector<std::uint32_t>{32, 33, 34, 35, 36, 37, 38, 39}));
    EXPECT_EQ(plan->instances, 40U);
    EXPECT_EQ(plan->vms[1].acpi.size() < plan->vms[0].acpi.size(), true) << "an SSDT only where there are some";
    EXPECT_EQ(layout::instance_of(15, 8), 135U);
}

TEST(Plan, FillsTheGapsBetweenExplicitBases)
{
    const BuildFolder build;
    const auto plan = make_plan(build.machine(R"(schema = 1
[[vm]]
name = "fixed"
kernel = "debian:amd64"
memory = "256M"
base = 0x118000000
[[vm]]
name = "fits"
kernel = "debian:amd64"
memory = "384M"
[[vm]]
name = "after"
kernel = "debian:amd64"
memory = "384M"
)"));
    ASSERT_TRUE(plan) << plan.error().text;
    EXPECT_EQ(plan->vms[0].slice, 0x1'1800'0000u);
    EXPECT_EQ(plan->vms[1].slice, 0x1'0000'0000u);
    EXPECT_EQ(plan->vms[2].slice, 0x1'2800'0000u);
    EXPECT_EQ(plan->memory, 0x4000'0000u + 0x4000'0000u);
}

TEST(Plan, RefusesImagesThatDoNotFit)
{
    const BuildFolder build;
    std::filesystem::resize_file(build.path() / "share/banyan/initrd-amd64.img", 400u << 20); // sparse
    const auto plan = make_plan(build.machine(kTwoVms));
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().exit, Exit::kUsage);
    EXPECT_NE(plan.error().text.find("VM \"alpha\" has 384M of memory, too little"), std::string::npos);
}

TEST(References, AreTheMeasuredItemsInTheirOrder)
{
    const BuildFolder build;
    const Machine machine = build.machine(kTwoVms);
    const auto all = references(machine);
    ASSERT_TRUE(all) << all.error();
    ASSERT_EQ(all->size(), 2u);
    const attest::VmReference &beta = (*all)[1];
    EXPECT_EQ(beta.name, "beta");
    EXPECT_EQ(beta.domain, 2u);
    EXPECT_EQ(beta.instance, 2u);
    EXPECT_EQ(beta.kernel, "debian:cloud-amd64");
    std::vector<std::string> texts;
    std::vector<unsigned> pcrs;
    for (const attest::MeasuredItem &item : beta.items) {
        texts.push_back(item.text);
        pcrs.push_back(item.pcr);
        EXPECT_EQ(item.event_type, item.text == "SKINIT" ? 0x502u : 0x0Du);
    }
    EXPECT_EQ(texts,
              (std::vector<std::string>{"SKINIT", "kernel", "initrd", "command line", "boot info", "acpi tables"}));
    EXPECT_EQ(pcrs, (std::vector<unsigned>{17, 17, 17, 17, 18, 18}));
    const std::string_view line = "quiet";
    EXPECT_EQ(beta.items[3].digests,
              attest::digest_bytes({reinterpret_cast<const std::uint8_t *>(line.data()), line.size()}));
    EXPECT_EQ(beta.items[1].digests, *attest::digest_file(machine.vms[1].kernel));
}

TEST(References, NameAFileThatIsNoLoader)
{
    const BuildFolder build;
    const Machine machine = build.machine(kTwoVms);
    build.put("share/banyan/loader.slb", "no header");
    const auto all = references(machine);
    ASSERT_FALSE(all);
    EXPECT_NE(all.error().find("loader.slb is not a secure loader block"), std::string::npos);
}

} // namespace
} // namespace banyan::tool
