// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/acpi_mcfg.hpp"

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "banyan/arch/boot_info.hpp"

namespace banyan::loader {
namespace {

using Buffer = std::vector<std::uint8_t>;

template <typename T>
void put(Buffer &bytes, std::size_t at, T value)
{
    std::memcpy(bytes.data() + at, &value, sizeof(value));
}

constexpr std::size_t kXsdt = 0x100;
constexpr std::size_t kFadt = 0x200;
constexpr std::size_t kMcfg = 0x600;

void put_table(Buffer &bytes, std::size_t at, const char *signature, std::uint32_t length)
{
    std::memcpy(bytes.data() + at, signature, 4);
    put(bytes, at + 4, length);
}

/// RSDP, XSDT, FADT and MCFG as the tool lays them out.
Buffer tables()
{
    Buffer bytes(0x1000, 0);
    std::memcpy(bytes.data(), "RSD PTR ", 8);
    bytes[15] = 2;
    put(bytes, 24, boot::kAcpi + kXsdt);
    put_table(bytes, kXsdt, "XSDT", 36 + 16);
    put(bytes, kXsdt + 36, boot::kAcpi + kFadt);
    put(bytes, kXsdt + 44, boot::kAcpi + kMcfg);
    put_table(bytes, kFadt, "FACP", 276);
    put_table(bytes, kMcfg, "MCFG", 60);
    put(bytes, kMcfg + 44, std::uint64_t{0xB000'0000});
    bytes[kMcfg + 54] = 0x11;
    bytes[kMcfg + 55] = 0x11;
    return bytes;
}

TEST(AcpiMcfg, FindsTheDomainsBus)
{
    ConfigSpace found;
    ASSERT_TRUE(find_config_space(tables(), boot::kAcpi, found));
    EXPECT_EQ(found, (ConfigSpace{0xB000'0000, 0x11, 0x11, true}));
}

TEST(AcpiMcfg, NoMcfgMeansNoFunctions)
{
    Buffer bytes = tables();
    put_table(bytes, kMcfg, "APIC", 60);
    ConfigSpace found;
    ASSERT_TRUE(find_config_space(bytes, boot::kAcpi, found));
    EXPECT_FALSE(found.present);
}

struct Hostile {
    const char *name;
    std::function<void(Buffer &)> spoil;
};

const Hostile kHostile[] = {
    {"empty", [](auto &b) { b.clear(); }},
    {"rsdp_cut", [](auto &b) { b.resize(35); }},
    {"rsdp_revision_0", [](auto &b) { b[15] = 0; }},
    {"xsdt_below", [](auto &b) { put(b, 24, boot::kAcpi - 1); }},
    {"xsdt_above", [](auto &b) { put(b, 24, boot::kAcpi + 0x1000 - 35); }},
    {"xsdt_wraps", [](auto &b) { put(b, 24, ~0ull); }},
    {"xsdt_signature", [](auto &b) { b[kXsdt] = 'R'; }},
    {"xsdt_long", [](auto &b) { put(b, kXsdt + 4, 0xF01u); }},
    {"xsdt_huge", [](auto &b) { put(b, kXsdt + 4, ~0u); }},
    {"xsdt_short", [](auto &b) { put(b, kXsdt + 4, 35u); }},
    {"table_outside", [](auto &b) { put(b, kXsdt + 36, 0x7'0000ull); }},
    {"table_long", [](auto &b) { put(b, kFadt + 4, 0xE01u); }},
    {"mcfg_short", [](auto &b) { put(b, kMcfg + 4, 59u); }},
    {"mcfg_two_entries", [](auto &b) { put(b, kMcfg + 4, 76u); }},
    {"mcfg_twice", [](auto &b) { put(b, kXsdt + 36, boot::kAcpi + kMcfg); }},
    {"segment", [](auto &b) { b[kMcfg + 52] = 1; }},
    {"buses_descend", [](auto &b) { b[kMcfg + 55] = 0x10; }},
    {"base_unaligned", [](auto &b) { b[kMcfg + 44] = 1; }},
    {"base_in_ram", [](auto &b) { put(b, kMcfg + 44, std::uint64_t{0x1000'0000}); }},
    {"base_high", [](auto &b) { put(b, kMcfg + 44, std::uint64_t{1} << 32); }},
    {"base_wraps", [](auto &b) { put(b, kMcfg + 44, ~std::uint64_t{0xF'FFFF}); }},
    {"over_the_vtpm", [](auto &b) { put(b, kMcfg + 44, std::uint64_t{0xFD00'0000}), b[kMcfg + 55] = 0x1D; }},
};

class EveryHostileTable : public testing::TestWithParam<Hostile> {};

TEST_P(EveryHostileTable, IsRefused)
{
    Buffer bytes = tables();
    GetParam().spoil(bytes);
    ConfigSpace found;
    EXPECT_FALSE(find_config_space(bytes, boot::kAcpi, found));
}

INSTANTIATE_TEST_SUITE_P(Table, EveryHostileTable, testing::ValuesIn(kHostile),
                         [](const auto &param) { return std::string(param.param.name); });

} // namespace
} // namespace banyan::loader
