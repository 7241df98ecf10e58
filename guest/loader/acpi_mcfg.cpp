// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/acpi_mcfg.hpp"

#include "guest/loader/boot_info_check.hpp"

namespace banyan::loader {
namespace {

constexpr std::uint64_t kMmioEnd = 0xFEC0'0000; // IOAPIC, vTPM and LAPIC windows follow
constexpr std::size_t kTableHeader = 36;        // ACPI 6.4, 5.2.6; length at 4
constexpr std::size_t kXsdtAddress = 24;        // in the RSDP, revision 2: 5.2.5.3
constexpr std::size_t kRsdpRevision = 15;
constexpr std::size_t kRsdpSize = 36;
constexpr std::size_t kMcfgEntries = kTableHeader + 8;
constexpr std::size_t kMcfgEntry = 16;

template <typename T>
T get(Bytes bytes, std::size_t offset)
{
    T value{};
    __builtin_memcpy(&value, bytes.data() + offset, sizeof(T));
    return value;
}

/// The table at a guest physical address, cut to its length; empty when it does not lie within `tables`.
Bytes table_at(Bytes tables, std::uint64_t base, std::uint64_t address)
{
    const boot::Extent header{address, kTableHeader};
    if (!within(header, base, base + tables.size())) {
        return {};
    }
    const Bytes rest = tables.subspan(static_cast<std::size_t>(address - base));
    const auto length = get<std::uint32_t>(rest, 4);
    return length < kTableHeader || length > rest.size() ? Bytes{} : rest.first(length);
}

bool is(Bytes table, const char *signature)
{
    return __builtin_memcmp(table.data(), signature, 4) == 0;
}

bool read_mcfg(Bytes table, ConfigSpace &found)
{
    if (found.present || table.size() != kMcfgEntries + kMcfgEntry) {
        return false;
    }
    const Bytes entry = table.subspan(kMcfgEntries);
    found = {get<std::uint64_t>(entry, 0), entry[10], entry[11], true};
    const std::uint64_t buses = std::uint64_t{found.last_bus} + 1 - found.first_bus;
    const boot::Extent extent{found.base + (std::uint64_t{found.first_bus} << 20), buses << 20};
    return get<std::uint16_t>(entry, 8) == 0 && found.first_bus <= found.last_bus && found.base % (1 << 20) == 0 &&
           found.base < kFourGiB && within(extent, kRamEndMax, kMmioEnd);
}

} // namespace

bool find_config_space(Bytes tables, std::uint64_t base, ConfigSpace &found)
{
    found = {};
    if (tables.size() < kRsdpSize || tables[kRsdpRevision] < 2) {
        return false;
    }
    const Bytes xsdt = table_at(tables, base, get<std::uint64_t>(tables, kXsdtAddress));
    if (xsdt.empty() || !is(xsdt, "XSDT")) {
        return false;
    }
    for (std::size_t at = kTableHeader; at + 8 <= xsdt.size(); at += 8) {
        const Bytes table = table_at(tables, base, get<std::uint64_t>(xsdt, at));
        if (table.empty() || (is(table, "MCFG") && !read_mcfg(table, found))) {
            return false;
        }
    }
    return true;
}

} // namespace banyan::loader
