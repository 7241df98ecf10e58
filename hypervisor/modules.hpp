// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>

#include "banyan/arch/management.hpp"
#include "hypervisor/layout.hpp"

// What the firmware and the multiboot loader left in memory: modules and the number of cores. Neither is measured,
// so every address is checked before it is followed, each word is read once, and what counts is kept as a copy.

namespace banyan::hv {

struct Module {
    char name[mgmt::kModuleName]; // NUL-padded
    Extent extent;
};

inline constexpr std::size_t kMaxModules = 32;

struct Modules {
    Module module[kMaxModules];
    std::size_t count;

    [[nodiscard]] const Module *find(const char (&name)[mgmt::kModuleName]) const
    {
        for (std::size_t i = 0; i < count; ++i) {
            if (__builtin_memcmp(module[i].name, name, sizeof name) == 0) {
                return &module[i];
            }
        }
        return nullptr;
    }
};

/// A name is what follows the last space of the module's command line. False if there is none that fits.
template <typename Machine>
[[nodiscard]] bool read_module_name(Machine &machine, std::uint64_t line, char (&name)[mgmt::kModuleName])
{
    constexpr std::size_t kMaxLine = 4096;
    bool named = false;
    std::size_t length = 0;
    for (std::size_t i = 0; i < kMaxLine && within({line + i, 1}, 0, kRamHole); ++i) {
        std::uint8_t letter = 0;
        machine.read(&letter, line + i, 1);
        if (letter == 0) {
            return named && length > 0 && length < sizeof name;
        }
        if (letter == ' ') {
            named = true;
            length = 0;
            __builtin_memset(name, 0, sizeof name);
        } else if (named) {
            if (length < sizeof name) {
                name[length] = static_cast<char>(letter);
            }
            ++length;
        }
    }
    return false;
}

/// The modules in the multiboot information at `info` (multiboot 0.6.96, section 3.3) that lie in RAM at or above
/// `floor`. Of two with the same name the first counts.
template <typename Machine>
void read_modules(Machine &machine, std::uint32_t info, std::uint64_t floor, Modules &modules)
{
    constexpr std::uint32_t kHasModules = 1u << 3;
    constexpr std::uint32_t kFlags = 0;
    constexpr std::uint32_t kCount = 5; // words
    constexpr std::uint32_t kAddress = 6;
    std::uint32_t word[7];
    modules.count = 0;
    if (info == 0 || !within({info, sizeof word}, 0, kRamHole)) {
        return;
    }
    machine.read(word, info, sizeof word);
    if ((word[kFlags] & kHasModules) == 0) {
        return;
    }
    for (std::uint32_t i = 0; i < word[kCount] && modules.count < kMaxModules; ++i) {
        struct {
            std::uint32_t start, end, line, reserved;
        } entry;
        const std::uint64_t at = word[kAddress] + std::uint64_t{i} * sizeof entry;
        if (!within({at, sizeof entry}, 0, kRamHole)) {
            return;
        }
        machine.read(&entry, at, sizeof entry);
        Module module{};
        module.extent = {entry.start, std::uint64_t{entry.end} - entry.start};
        if (entry.start <= entry.end && within(module.extent, floor, kRamHole) &&
            read_module_name(machine, entry.line, module.name) && modules.find(module.name) == nullptr) {
            modules.module[modules.count++] = module;
        }
    }
}

/// Enabled cores besides core 0 in the ACPI MADT (ACPI 6.4, 5.2.5, 5.2.8, 5.2.12). For information only.
template <typename Machine>
[[nodiscard]] std::uint32_t count_cores(Machine &machine)
{
    struct [[gnu::packed]] Rsdp {
        char signature[8];
        std::uint8_t checksum_to_revision[8];
        std::uint32_t rsdt;
    };
    struct [[gnu::packed]] Table {
        char signature[4];
        std::uint32_t length;
        std::uint8_t rest[28];
    };
    struct [[gnu::packed]] LocalApic { // MADT structure type 0
        std::uint8_t type, length, processor, apic_id;
        std::uint32_t flags;
    };
    constexpr std::uint32_t kMaxTable = 0x1'0000;
    constexpr std::uint32_t kMadtHead = 8; // local APIC address, flags

    const auto read_table = [&](std::uint64_t at, const char *signature, Table &table) {
        if (!within({at, kMaxTable}, 0, kRamHole)) {
            return false;
        }
        machine.read(&table, at, sizeof table);
        return __builtin_memcmp(table.signature, signature, 4) == 0 && table.length <= kMaxTable;
    };

    for (std::uint64_t at = 0xE'0000; at < kLowEnd; at += 16) {
        Rsdp rsdp;
        Table rsdt;
        machine.read(&rsdp, at, sizeof rsdp);
        if (__builtin_memcmp(rsdp.signature, "RSD PTR ", 8) != 0 || !read_table(rsdp.rsdt, "RSDT", rsdt)) {
            continue;
        }
        for (std::uint32_t entry = sizeof rsdt; entry + 4 <= rsdt.length; entry += 4) {
            std::uint32_t address = 0;
            Table madt;
            machine.read(&address, rsdp.rsdt + std::uint64_t{entry}, sizeof address);
            if (!read_table(address, "APIC", madt)) {
                continue;
            }
            std::uint32_t cores = 0;
            LocalApic apic{};
            for (std::uint32_t i = sizeof madt + kMadtHead; i + sizeof apic <= madt.length; i += apic.length) {
                machine.read(&apic, address + std::uint64_t{i}, sizeof apic);
                if (apic.length < 2) {
                    break;
                }
                cores += apic.type == 0 && (apic.flags & 1) != 0 && apic.apic_id != 0 ? 1 : 0;
            }
            return cores;
        }
    }
    return 0;
}

} // namespace banyan::hv
