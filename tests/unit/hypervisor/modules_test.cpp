// SPDX-License-Identifier: GPL-2.0-or-later
#include "hypervisor/modules.hpp"

#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/hypervisor/fake_machine.hpp"

namespace banyan::hv::test {
namespace {

constexpr std::uint32_t kInfo = 0x9500;
constexpr std::uint32_t kTable = 0x4000'0000;
constexpr std::uint64_t kFloor = 4 * kMib;

struct Entry {
    std::uint32_t start, end;
    std::string line;
};

Modules read(const std::vector<Entry> &entries, std::uint32_t flags = 1u << 3)
{
    FakeMachine machine;
    const std::uint32_t info[7] = {flags, 0, 0, 0, 0, static_cast<std::uint32_t>(entries.size()), kTable};
    machine.write_memory(kInfo, info, sizeof info);
    for (std::uint32_t i = 0; i < entries.size(); ++i) {
        const std::uint32_t line = kTable + 0x1'0000 + i * 0x2000;
        const std::uint32_t words[4] = {entries[i].start, entries[i].end, line, 0};
        machine.write_memory(kTable + i * 16, words, sizeof words);
        machine.write_memory(line, entries[i].line.c_str(), entries[i].line.size() + 1);
    }
    Modules modules{};
    read_modules(machine, kInfo, kFloor, modules);
    return modules;
}

TEST(Modules, AreNamedByTheLastWord)
{
    const Modules modules =
        read({{0x50'0000, 0x50'1000, "/boot/vmlinuz bz"}, {0x60'0000, 0x60'0000, "my dir/empty rd"}});
    ASSERT_EQ(modules.count, 2u);
    EXPECT_STREQ(modules.module[0].name, "bz");
    EXPECT_EQ(modules.module[0].extent.base, 0x50'0000u);
    EXPECT_EQ(modules.module[0].extent.size, 0x1000u);
    EXPECT_STREQ(modules.module[1].name, "rd");
    EXPECT_EQ(modules.module[1].extent.size, 0u);
    EXPECT_NE(modules.find(modules.module[1].name), nullptr);
}

TEST(Modules, WithoutANameThatFitsAreLeftOut)
{
    EXPECT_EQ(read({{0x50'0000, 0x50'1000, "vmlinuz"}}).count, 0u);
    EXPECT_EQ(read({{0x50'0000, 0x50'1000, "vmlinuz "}}).count, 0u);
    EXPECT_EQ(read({{0x50'0000, 0x50'1000, ""}}).count, 0u);
    EXPECT_EQ(read({{0x50'0000, 0x50'1000, "f " + std::string(31, 'n')}}).count, 1u);
    EXPECT_EQ(read({{0x50'0000, 0x50'1000, "f " + std::string(32, 'n')}}).count, 0u);
    EXPECT_EQ(read({{0x50'0000, 0x50'1000, std::string(5000, 'f') + " n"}}).count, 0u);
}

TEST(Modules, OutsideOfRamAreLeftOut)
{
    EXPECT_EQ(read({{0x3F'FFFF, 0x50'1000, "f n"}}).count, 0u);     // in the hypervisor
    EXPECT_EQ(read({{0x50'1000, 0x50'0000, "f n"}}).count, 0u);     // backwards
    EXPECT_EQ(read({{0xAFFF'F000, 0xB000'0001, "f n"}}).count, 0u); // MMIO
    EXPECT_EQ(read({{0xAFFF'F000, 0xB000'0000, "f n"}}).count, 1u);
}

TEST(Modules, OfTheSameNameTheFirstCounts)
{
    const Modules modules = read({{0x50'0000, 0x50'1000, "a n"}, {0x60'0000, 0x60'1000, "b n"}});
    ASSERT_EQ(modules.count, 1u);
    EXPECT_EQ(modules.module[0].extent.base, 0x50'0000u);
}

TEST(Modules, StopAtTheTablesEnd)
{
    std::vector<Entry> many;
    for (std::uint32_t i = 0; i < 40; ++i) {
        many.push_back({0x50'0000, 0x50'1000, "f n" + std::to_string(i)});
    }
    EXPECT_EQ(read(many).count, kMaxModules);
}

TEST(Modules, AreNoneWithoutInformation)
{
    EXPECT_EQ(read({{0x50'0000, 0x50'1000, "f n"}}, 0).count, 0u);
    FakeMachine machine;
    Modules modules{};
    modules.count = 5;
    read_modules(machine, 0, kFloor, modules);
    EXPECT_EQ(modules.count, 0u);
    read_modules(machine, 0xFED5'1000, kFloor, modules);
    EXPECT_EQ(modules.count, 0u);
    read_modules(machine, 0xFFFF'FFF0, kFloor, modules);
    EXPECT_EQ(modules.count, 0u);
}

TEST(Modules, WithATableInMmioAreNotFollowed)
{
    FakeMachine machine;
    const std::uint32_t info[7] = {1u << 3, 0, 0, 0, 0, 0xFFFF'FFFF, 0xFFFF'FFF0};
    machine.write_memory(kInfo, info, sizeof info);
    Modules modules{};
    read_modules(machine, kInfo, kFloor, modules);
    EXPECT_EQ(modules.count, 0u);
}

// ---- ACPI

void put_acpi(FakeMachine &machine, const std::vector<std::uint8_t> &madt_entries)
{
    constexpr std::uint32_t kRsdt = 0x7FF0'0000;
    constexpr std::uint32_t kMadt = 0x7FF1'0000;
    std::vector<std::uint8_t> rsdp(20);
    std::memcpy(rsdp.data(), "RSD PTR ", 8);
    std::memcpy(rsdp.data() + 16, &kRsdt, 4);
    machine.write_memory(0xF'5AD0, rsdp.data(), rsdp.size());
    const auto table = [&](std::uint32_t at, const char *signature, std::vector<std::uint8_t> body) {
        body.insert(body.begin(), 36, 0);
        const auto size = static_cast<std::uint32_t>(body.size());
        std::memcpy(body.data(), signature, 4);
        std::memcpy(body.data() + 4, &size, 4);
        machine.write_memory(at, body.data(), body.size());
    };
    std::vector<std::uint8_t> madt(8);
    madt.insert(madt.end(), madt_entries.begin(), madt_entries.end());
    table(kRsdt, "RSDT", {0, 0, 0xF0, 0x7F, 0, 0, 0xF1, 0x7F});
    table(kMadt, "APIC", madt);
}

TEST(Cores, AreCountedFromTheMadt)
{
    FakeMachine machine;
    put_acpi(machine, {0, 8,  0, 0, 1, 0, 0, 0,             //
                       0, 8,  1, 1, 1, 0, 0, 0,             //
                       1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // IOAPIC
                       0, 8,  2, 2, 0, 0, 0, 0,             // not enabled
                       0, 8,  3, 3, 1, 0, 0, 0});
    EXPECT_EQ(count_cores(machine), 2u);
}

TEST(Cores, OfABrokenMadtEndTheWalk)
{
    FakeMachine machine;
    put_acpi(machine, {0, 8, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0});
    EXPECT_LE(count_cores(machine), 2u);
    FakeMachine empty;
    EXPECT_EQ(count_cores(empty), 0u);
}

} // namespace
} // namespace banyan::hv::test
