// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "banyan/arch/domain_table.hpp"

// What SEAL checks, in its order; the first rule that is broken decides. docs/spec/domain-table.md has the same list.

namespace banyan::domain {

enum class Rule : std::uint8_t {
    kNone,
    kMagic,
    kVersion,
    kSize,
    kName,
    kCounts,
    kUnused,
    kFlags,
    kProfiles,
    kCoreMask,
    kCoreZero,
    kBootCore,
    kInstanceZero,
    kInstances,
    kRangeAlign,
    kRangeGuest,
    kRangeOrder,
    kRangeImplicit,
    kRangeRam,
    kRangeSelf,
    kWindowAlign,
    kWindowPlace,
    kWindowSelf,
    kWindowRam,
    kRootPort,
    kPortRule,
    kMsrRule,
    kEntry,
    kWindowPlatform,
    kOtherCores,
    kOtherInstance,
    kOtherRam,
    kOtherWindow,
    kOtherRootPort,
    kInstance,
};

struct RuleFact {
    Rule rule;
    dt::Status status;
    std::string_view text;
};

inline constexpr auto kBad = dt::Status::kBadDescriptor;
inline constexpr auto kOver = dt::Status::kOverlap;

inline constexpr std::array kRules{
    RuleFact{Rule::kNone, dt::Status::kOk, "every rule holds"},
    RuleFact{Rule::kMagic, kBad, "magic is \"BNYV\""},
    RuleFact{Rule::kVersion, kBad, "version is 2"},
    RuleFact{Rule::kSize, kBad, "size is 840"},
    RuleFact{Rule::kName, kBad, "name is 1 to 31 characters of [a-z0-9-], then only NUL"},
    RuleFact{Rule::kCounts, kBad, "counts are within the tables, and there is a RAM range"},
    RuleFact{Rule::kUnused, kBad, "unused entries and reserved bytes are zero"},
    RuleFact{Rule::kFlags, kBad, "flags are known"},
    RuleFact{Rule::kProfiles, kBad, "MSR and port profiles are known"},
    RuleFact{Rule::kCoreMask, kBad, "the core mask is not empty and names cores of the machine"},
    RuleFact{Rule::kCoreZero, kBad, "core 0 is the host's"},
    RuleFact{Rule::kBootCore, kBad, "the boot core is in the core mask"},
    RuleFact{Rule::kInstanceZero, kBad, "vTPM instance 0 is the host's"},
    RuleFact{Rule::kInstances, kBad, "further vTPM instances follow without a gap, and all differ"},
    RuleFact{Rule::kRangeAlign, kBad, "RAM ranges are whole 4 KiB pages, not empty"},
    RuleFact{Rule::kRangeGuest, kBad, "RAM ranges end at or below 2^46 in the guest"},
    RuleFact{Rule::kRangeOrder, kBad, "RAM ranges ascend in the guest and do not overlap"},
    RuleFact{Rule::kRangeImplicit, kBad, "RAM ranges leave out the vTPM's windows, own page and LAPIC page"},
    RuleFact{Rule::kRangeRam, kBad, "RAM ranges lie in the machine's RAM, outside 0xA0000..0xFFFFF"},
    RuleFact{Rule::kRangeSelf, kBad, "RAM ranges do not share physical pages"},
    RuleFact{Rule::kWindowAlign, kBad, "MMIO windows are whole 4 KiB pages, not empty"},
    RuleFact{Rule::kWindowPlace, kBad, "MMIO windows lie in the ECAM or in the PCI hole"},
    RuleFact{Rule::kWindowSelf, kBad, "MMIO windows do not overlap each other"},
    RuleFact{Rule::kWindowRam, kBad, "MMIO windows and RAM ranges do not overlap in the guest"},
    RuleFact{Rule::kRootPort, kBad, "root ports are not 00:00.0, have a bus of the ECAM that is not 0, and differ"},
    RuleFact{Rule::kPortRule, kBad, "port rules: first <= last, a known action, a value only when denied"},
    RuleFact{Rule::kMsrRule, kBad,
             "MSR rules: a known action with its own fields only, nothing that no domain may have"},
    RuleFact{Rule::kEntry, kBad, "the entry point lies in RAM"},
    RuleFact{Rule::kWindowPlatform, kOver, "MMIO windows leave out bus 0 and the platform's own windows"},
    RuleFact{Rule::kOtherCores, kOver, "no core belongs to another domain"},
    RuleFact{Rule::kOtherInstance, kOver, "no vTPM instance belongs to another domain"},
    RuleFact{Rule::kOtherRam, kOver, "no physical page belongs to another domain"},
    RuleFact{Rule::kOtherWindow, kOver, "no MMIO window belongs to another domain or shows its buses"},
    RuleFact{Rule::kOtherRootPort, kOver, "no root port or bus belongs to another domain"},
    RuleFact{Rule::kInstance, dt::Status::kNoInstance, "every vTPM instance exists and comes up"},
};

consteval bool rules_in_order()
{
    for (std::size_t i = 0; i < kRules.size(); ++i) {
        if (static_cast<std::size_t>(kRules[i].rule) != i) {
            return false;
        }
    }
    return true;
}
static_assert(rules_in_order());

[[nodiscard]] constexpr const RuleFact &fact_of(Rule rule)
{
    return kRules[static_cast<std::size_t>(rule)];
}

} // namespace banyan::domain
