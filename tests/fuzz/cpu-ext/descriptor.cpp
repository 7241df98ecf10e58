// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <set>
#include <span>

#include "cpu-ext/domain/descriptor_check.hpp"
#include "require.hpp"

// Any 840 bytes as a descriptor: whatever SEAL accepts keeps what a sealed domain promises, checked here page by page and
// in other words than descriptor_check.cpp uses.

using namespace banyan;
using namespace banyan::domain;

namespace {

constexpr Platform kMachine{6, 0x8000'0000, 0x8000'0000, 0xB000'0000, 0x1000'0000, 0xC000'0000, 0x3EC0'0000, 0};

bool page_is_ram(std::uint64_t page)
{
    return (page < 0x8000'0000 || (page >= 0x1'0000'0000 && page < 0x1'8000'0000)) &&
           !(page >= 0xA'0000 && page < 0x10'0000);
}

void check_accepted(const dt::Descriptor &d)
{
    REQUIRE(d.core_mask != 0 && (d.core_mask & ~std::uint64_t{0x3E}) == 0);
    REQUIRE(d.vtpm_instance != 0 && d.range_count >= 1 && d.range_count <= 4 && d.window_count <= 4);
    std::set<std::uint32_t> instances{0, d.vtpm_instance};
    std::uint64_t vtpms_end = 0xFED6'0000; // of the further windows that the domain has
    for (std::uint32_t i = 0; i < 8 && d.further_vtpms[i] != 0; ++i) {
        REQUIRE(instances.insert(d.further_vtpms[i]).second);
        vtpms_end += 0x5000;
    }
    REQUIRE(std::count(std::begin(d.further_vtpms), std::end(d.further_vtpms), 0U) + instances.size() == 10);
    REQUIRE(std::memchr(d.name, 0, sizeof(d.name)) != nullptr);
    bool entry_in_ram = false;
    for (std::uint32_t i = 0; i < d.range_count; ++i) {
        const dt::Range &r = d.ranges[i];
        entry_in_ram = entry_in_ram || (d.entry.eip >= r.gpa && d.entry.eip < r.gpa + r.size);
        REQUIRE(r.size > 0 && r.size <= 0x8000'0000);
        const std::uint64_t step = std::max<std::uint64_t>(0x1000, r.size / 64 / 0x1000 * 0x1000);
        for (std::uint64_t at = 0; at < r.size; at += step) {
            REQUIRE(page_is_ram(r.hpa + at));
            REQUIRE(r.gpa + at < std::uint64_t{1} << 46);
            const std::uint64_t gpa = r.gpa + at;
            REQUIRE(gpa / 0x1000 != 0xFEE00 && (gpa < 0xFED4'0000 || gpa > 0xFED5'0FFF));
            REQUIRE(gpa < 0xFED6'0000 || gpa >= vtpms_end);
        }
        REQUIRE(page_is_ram(r.hpa + r.size - 1));
        for (std::uint32_t j = 0; j < i; ++j) {
            REQUIRE(d.ranges[j].gpa + d.ranges[j].size <= r.gpa);
            REQUIRE(d.ranges[j].hpa + d.ranges[j].size <= r.hpa || r.hpa + r.size <= d.ranges[j].hpa);
        }
    }
    REQUIRE(entry_in_ram);
    for (std::uint32_t i = 0; i < d.window_count; ++i) {
        REQUIRE(d.windows[i].base >= 0xB010'0000 && d.windows[i].base + d.windows[i].size <= 0xFEC0'0000);
    }
    for (std::uint32_t i = 0; i < d.msr_count; ++i) {
        REQUIRE(d.msrs[i].action != dt::MsrAction::kPass || (d.msrs[i].msr != 0xC001'0117 && d.msrs[i].msr != 0x1B));
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    dt::Descriptor one{};
    dt::Descriptor two{};
    std::memcpy(&one, data, std::min(size, sizeof(one)));
    if (size > sizeof(one)) {
        std::memcpy(&two, data + sizeof(one), std::min(size - sizeof(one), sizeof(two)));
    }
    const Rule found = check_descriptor(one, kMachine);
    REQUIRE(static_cast<std::size_t>(found) < kRules.size());
    if (found != Rule::kNone) {
        return 0;
    }
    check_accepted(one);
    const Rule against = check_against(one, two, kMachine); // two may be anything
    if (against == Rule::kNone && check_descriptor(two, kMachine) == Rule::kNone) {
        REQUIRE((one.core_mask & two.core_mask) == 0);
        REQUIRE(check_against(two, one, kMachine) == Rule::kNone);
    }
    return 0;
}
