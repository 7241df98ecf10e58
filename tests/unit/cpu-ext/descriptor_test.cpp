// SPDX-License-Identifier: GPL-2.0-or-later
#include <bit>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "cpu-ext/access/msr_profile.hpp"
#include "cpu-ext/domain/descriptor_check.hpp"
#include "fake_host.hpp"

namespace banyan::domain {

static void PrintTo(Rule rule, std::ostream *out) // NOLINT(readability-identifier-naming)
{
    *out << fact_of(rule).text;
}

namespace {

/// One descriptor that breaks one rule and no earlier one.
struct Breach {
    Rule rule;
    const char *what;
    void (*apply)(dt::Descriptor &);
};

void set_name(dt::Descriptor &d, std::string_view name)
{
    std::fill(std::begin(d.name), std::end(d.name), '\0');
    std::copy(name.begin(), name.end(), std::begin(d.name));
}

const Breach kBreaches[] = {
    {Rule::kMagic, "magic", [](auto &d) { d.magic ^= 1; }},
    {Rule::kVersion, "version 0", [](auto &d) { d.version = 0; }},
    {Rule::kVersion, "version 1", [](auto &d) { d.version = 1; }},
    {Rule::kSize, "size", [](auto &d) { d.size = sizeof(d) + 8; }},
    {Rule::kName, "empty", [](auto &d) { set_name(d, ""); }},
    {Rule::kName, "without NUL", [](auto &d) { set_name(d, std::string(32, 'a')); }},
    {Rule::kName, "upper case", [](auto &d) { set_name(d, "Vm"); }},
    {Rule::kName, "underscore", [](auto &d) { set_name(d, "a_b"); }},
    {Rule::kName, "quote", [](auto &d) { set_name(d, "a\"b"); }},
    {Rule::kName, "byte after NUL", [](auto &d) { d.name[31] = 'x', d.name[30] = 0; }},
    {Rule::kCounts, "no range", [](auto &d) { d.range_count = 0; }},
    {Rule::kCounts, "ranges", [](auto &d) { d.range_count = 5; }},
    {Rule::kCounts, "ranges, large", [](auto &d) { d.range_count = 0xFFFF'FFFF; }},
    {Rule::kCounts, "windows", [](auto &d) { d.window_count = 5; }},
    {Rule::kCounts, "ports", [](auto &d) { d.port_count = 17; }},
    {Rule::kCounts, "msrs", [](auto &d) { d.msr_count = 17; }},
    {Rule::kCounts, "root ports", [](auto &d) { d.root_port_count = 5; }},
    {Rule::kUnused, "range", [](auto &d) { d.ranges[3].size = 1; }},
    {Rule::kUnused, "window", [](auto &d) { d.windows[2].base = 1; }},
    {Rule::kUnused, "root port", [](auto &d) { d.root_ports[1].devfn = 8; }},
    {Rule::kUnused, "port", [](auto &d) { d.ports[15].last = 1; }},
    {Rule::kUnused, "msr", [](auto &d) { d.msrs[15].msr = 1; }},
    {Rule::kUnused, "reserved of a root port", [](auto &d) { d.root_ports[0].reserved[5] = 1; }},
    {Rule::kUnused, "reserved of a port", [](auto &d) { d.ports[0].reserved[1] = 1; }},
    {Rule::kUnused, "reserved of an msr", [](auto &d) { d.msrs[0].reserved[2] = 1; }},
    {Rule::kFlags, "flag", [](auto &d) { d.flags = 2; }},
    {Rule::kProfiles, "msr profile 0", [](auto &d) { d.msr_profile = 0; }},
    {Rule::kProfiles, "msr profile 2", [](auto &d) { d.msr_profile = 2; }},
    {Rule::kProfiles, "port profile 0", [](auto &d) { d.port_profile = 0; }},
    {Rule::kProfiles, "port profile 2", [](auto &d) { d.port_profile = 2; }},
    {Rule::kCoreMask, "empty", [](auto &d) { d.core_mask = 0; }},
    {Rule::kCoreMask, "beyond the machine", [](auto &d) { d.core_mask |= 1U << 6; }},
    {Rule::kCoreMask, "core 63", [](auto &d) { d.core_mask |= std::uint64_t{1} << 63; }},
    {Rule::kCoreZero, "core 0", [](auto &d) { d.core_mask |= 1; }},
    {Rule::kBootCore, "another's", [](auto &d) { d.boot_core = 2; }},
    {Rule::kBootCore, "65", [](auto &d) { d.boot_core = 65; }},
    {Rule::kInstanceZero, "0", [](auto &d) { d.vtpm_instance = 0; }},
    {Rule::kInstances, "the first one again", [](auto &d) { d.further_vtpms[0] = d.vtpm_instance; }},
    {Rule::kInstances, "one twice", [](auto &d) { d.further_vtpms[0] = 21, d.further_vtpms[1] = 21; }},
    {Rule::kInstances, "a gap", [](auto &d) { d.further_vtpms[0] = 21, d.further_vtpms[2] = 22; }},
    {Rule::kInstances, "not from the front", [](auto &d) { d.further_vtpms[7] = 21; }},
    {Rule::kRangeAlign, "gpa", [](auto &d) { d.ranges[1].gpa += 0x800; }},
    {Rule::kRangeAlign, "hpa", [](auto &d) { d.ranges[1].hpa += 1; }},
    {Rule::kRangeAlign, "size", [](auto &d) { d.ranges[1].size += 8; }},
    {Rule::kRangeAlign, "empty", [](auto &d) { d.ranges[1].size = 0; }},
    {Rule::kRangeGuest, "wraps", [](auto &d) { d.ranges[1].gpa = ~std::uint64_t{0xFFF}; }},
    {Rule::kRangeGuest, "huge", [](auto &d) { d.ranges[1].size = ~std::uint64_t{0xFFF}; }},
    {Rule::kRangeGuest, "ends above 2^46", [](auto &d) { d.ranges[1].gpa = (std::uint64_t{1} << 46) - 254 * kMib; }},
    {Rule::kRangeOrder, "descends", [](auto &d) { std::swap(d.ranges[0], d.ranges[1]); }},
    {Rule::kRangeOrder, "overlaps by a page", [](auto &d) { d.ranges[1].gpa = 0x9'F000; }},
    {Rule::kRangeOrder, "twice", [](auto &d) { d.ranges[1].gpa = 0; }},
    {Rule::kRangeImplicit, "vTPM",
     [](auto &d) { d.ranges[1].gpa = dt::kVtpmBase + 0x4000, d.ranges[1].size = 0x1000; }},
    {Rule::kRangeImplicit, "second further vTPM",
     [](auto &d) {
         d.further_vtpms[0] = 21, d.further_vtpms[1] = 22;
         d.ranges[1].gpa = dt::kVtpmWindowsBase + 0x9000, d.ranges[1].size = 0x1000;
     }},
    {Rule::kRangeImplicit, "own page", [](auto &d) { d.ranges[1].gpa = dt::kOwnPageBase, d.ranges[1].size = 0x1000; }},
    {Rule::kRangeImplicit, "LAPIC", [](auto &d) { d.ranges[1].gpa = dt::kLapicBase - 254 * kMib; }},
    {Rule::kRangeRam, "above RAM", [](auto &d) { d.ranges[1].hpa = 2048 * kMib - 254 * kMib; }},
    {Rule::kRangeRam, "in the hole below 4 GiB", [](auto &d) { d.ranges[1].hpa = 0xC000'0000; }},
    {Rule::kRangeRam, "above the high RAM", [](auto &d) { d.ranges[1].hpa = k4Gib + 2048 * kMib; }},
    {Rule::kRangeRam, "wraps", [](auto &d) { d.ranges[1].hpa = ~std::uint64_t{0xFFF}; }},
    {Rule::kRangeRam, "legacy hole", [](auto &d) { d.ranges[0].hpa = 0x8'0000; }},
    {Rule::kRangeSelf, "same page twice",
     [](auto &d) { d.ranges[0].hpa = d.ranges[1].hpa + d.ranges[1].size - 0x1000; }},
    {Rule::kWindowAlign, "base", [](auto &d) { d.windows[0].base += 4; }},
    {Rule::kWindowAlign, "size", [](auto &d) { d.windows[0].size -= 4; }},
    {Rule::kWindowAlign, "empty", [](auto &d) { d.windows[1].size = 0; }},
    {Rule::kWindowPlace, "RAM", [](auto &d) { d.windows[1].base = 0x5000'0000; }},
    {Rule::kWindowPlace, "over the end", [](auto &d) { d.windows[1].base = 0xFEC0'0000 - kMib; }},
    {Rule::kWindowPlace, "from ECAM into the hole", [](auto &d) { d.windows[1].base = 0xC000'0000 - kMib; }},
    {Rule::kWindowPlace, "wraps", [](auto &d) { d.windows[1].base = ~std::uint64_t{0xFFF}; }},
    {Rule::kWindowSelf, "by a page",
     [](auto &d) {
         d.windows[0] = {d.windows[1].base - 0x1000 + 32 * kMib, 0x1000};
     }},
    {Rule::kWindowRam, "RAM over a window", [](auto &d) { d.ranges[1].gpa = 0xC200'0000 - 254 * kMib; }},
    {Rule::kRootPort, "host bridge", [](auto &d) { d.root_ports[0].devfn = 0; }},
    {Rule::kRootPort, "bus 0", [](auto &d) { d.root_ports[0].secondary = 0; }},
    {Rule::kRootPort, "devfn twice",
     [](auto &d) {
         d.root_port_count = 2, d.root_ports[1] = {d.root_ports[0].devfn, 99, {}};
     }},
    {Rule::kRootPort, "bus twice",
     [](auto &d) {
         d.root_port_count = 2, d.root_ports[1] = {0xF8, d.root_ports[0].secondary, {}};
     }},
    {Rule::kPortRule, "reversed", [](auto &d) { d.ports[0].first = 0x81; }},
    {Rule::kPortRule, "action", [](auto &d) { d.ports[0].action = static_cast<dt::PortAction>(2); }},
    {Rule::kPortRule, "allowed with a value", [](auto &d) { d.ports[0].value = 1; }},
    {Rule::kMsrRule, "action", [](auto &d) { d.msrs[0].action = static_cast<dt::MsrAction>(3); }},
    {Rule::kMsrRule, "constant with a mask", [](auto &d) { d.msrs[0].write_mask = 1; }},
    {Rule::kMsrRule, "pass with a value", [](auto &d) { d.msrs[0].action = dt::MsrAction::kPass; }},
    {Rule::kMsrRule, "fault with a value", [](auto &d) { d.msrs[0].action = dt::MsrAction::kFault; }},
    {Rule::kMsrRule, "VM_HSAVE_PA", [](auto &d) { d.msrs[0] = {0xC001'0117, dt::MsrAction::kPass, {}, 0, 0}; }},
    {Rule::kMsrRule, "the domain register",
     [](auto &d) { d.msrs[0] = {dt::kMsrDomain, dt::MsrAction::kPass, {}, 0, 1}; }},
    {Rule::kMsrRule, "APIC_BASE", [](auto &d) { d.msrs[0] = {0x1B, dt::MsrAction::kPass, {}, 0, 1}; }},
    {Rule::kMsrRule, "x2APIC ICR", [](auto &d) { d.msrs[0] = {0x830, dt::MsrAction::kPass, {}, 0, 1}; }},
    {Rule::kEntry, "in the legacy hole", [](auto &d) { d.entry.eip = 0xA'0000; }},
    {Rule::kEntry, "above RAM", [](auto &d) { d.entry.eip = 0xFFFF'FFFF; }},
    {Rule::kWindowPlatform, "bus 0", [](auto &d) { d.windows[0] = {0xB000'0000, 0x1000}; }},
    {Rule::kWindowPlatform, "bus 0 and 1", [](auto &d) { d.windows[0] = {0xB000'0000 + kMib - 0x1000, 0x2000}; }},
};

TEST(Descriptor, TheGoodOneIsAccepted)
{
    for (std::uint32_t number = 1; number <= 5; ++number) {
        EXPECT_EQ(check_descriptor(good_descriptor(number), kMachine), Rule::kNone);
    }
}

TEST(Descriptor, EveryBreachIsFoundByItsOwnRule)
{
    for (const Breach &breach : kBreaches) {
        dt::Descriptor d = good_descriptor(1);
        breach.apply(d);
        EXPECT_EQ(check_descriptor(d, kMachine), breach.rule) << breach.what;
    }
}

TEST(Descriptor, EveryRuleOfTheTableIsBrokenByOneOfTheseTests)
{
    std::set<Rule> tested{Rule::kNone, Rule::kInstance}; // domain_seal_test.cpp
    for (const Breach &breach : kBreaches) {
        tested.insert(breach.rule);
    }
    for (const Rule rule :
         {Rule::kOtherCores, Rule::kOtherInstance, Rule::kOtherRam, Rule::kOtherWindow, Rule::kOtherRootPort}) {
        tested.insert(rule); // below
    }
    EXPECT_EQ(tested.size(), kRules.size());
}

using Words = std::array<std::uint64_t, sizeof(dt::Descriptor) / 8>;

/// True if two breaches change no field in common.
bool independent(const Breach &a, const Breach &b)
{
    const auto good = std::bit_cast<Words>(good_descriptor(1));
    dt::Descriptor one = good_descriptor(1);
    dt::Descriptor two = good_descriptor(1);
    a.apply(one);
    b.apply(two);
    for (std::size_t i = 0; i < good.size(); ++i) {
        if (std::bit_cast<Words>(one)[i] != good[i] && std::bit_cast<Words>(two)[i] != good[i]) {
            return false;
        }
    }
    return true;
}

TEST(Descriptor, RulesAreCheckedInTheOrderOfTheManual)
{
    for (const Breach &first : kBreaches) {
        for (const Breach &second : kBreaches) {
            if (!independent(first, second)) {
                continue;
            }
            dt::Descriptor d = good_descriptor(1);
            first.apply(d);
            second.apply(d);
            EXPECT_EQ(check_descriptor(d, kMachine), std::min(first.rule, second.rule))
                << first.what << " and " << second.what;
        }
    }
    EXPECT_EQ(check_descriptor({}, kMachine), Rule::kMagic) << "all wrong at once";
}

TEST(Descriptor, WindowsLeaveThePlatformsOwnOut)
{
    Platform wide = kMachine; // a PCI hole that a careless machine lets reach over them
    wide.pci_size = k4Gib - wide.pci_base;
    for (const std::uint64_t base : {dt::kVtpmBase, dt::kOwnPageBase, dt::kControlBase, dt::kBlackHoleBase,
                                     dt::kLapicBase, dt::kLapicBase + 0xF'F000}) {
        dt::Descriptor d = good_descriptor(1);
        d.windows[0] = {base, 0x1000};
        EXPECT_EQ(check_descriptor(d, wide), Rule::kWindowPlatform) << std::hex << base;
    }
}

TEST(Descriptor, NoRuleGivesADomainAForbiddenMsr)
{
    for (const access::MsrForbidden &forbidden : access::kMsrForbidden) {
        for (const std::uint32_t msr : {forbidden.first, forbidden.last}) {
            dt::Descriptor d = good_descriptor(1);
            d.msrs[0] = {msr, dt::MsrAction::kPass, {}, 0, 0};
            EXPECT_EQ(check_descriptor(d, kMachine), Rule::kMsrRule) << forbidden.name;
            d.msrs[0] = {msr, dt::MsrAction::kConstant, {}, 1, 0};
            EXPECT_EQ(check_descriptor(d, kMachine), Rule::kNone) << forbidden.name;
        }
    }
}

TEST(Descriptor, EdgesOfTheLegalAreLegal)
{
    dt::Descriptor d = good_descriptor(1);
    d.ranges[1] = {(std::uint64_t{1} << 46) - 0x1000, k4Gib + 2048 * kMib - 0x1000, 0x1000};
    EXPECT_EQ(check_descriptor(d, kMachine), Rule::kNone);
    d.ranges[1] = {0xA'0000, 0x10'0000, 0x1000}; // back to back in the guest; first page after the legacy hole
    EXPECT_EQ(check_descriptor(d, kMachine), Rule::kNone);
    d.ranges[0].hpa = 0;
    EXPECT_EQ(check_descriptor(d, kMachine), Rule::kNone);
    d.core_mask = 0x3E;
    EXPECT_EQ(check_descriptor(d, kMachine), Rule::kNone);
    set_name(d, std::string(31, 'z'));
    EXPECT_EQ(check_descriptor(d, kMachine), Rule::kNone);
    d.msrs[0] = {0xC000'0080, dt::MsrAction::kFault, {}, 0, 0}; // a stricter rule than the profile's
    d.flags = dt::flag::kDebug;
    EXPECT_EQ(check_descriptor(d, kMachine), Rule::kNone);
}

TEST(Descriptor, TwoGoodOnesShareNothing)
{
    for (std::uint32_t a = 1; a <= 5; ++a) {
        for (std::uint32_t b = 1; b <= 5; ++b) {
            EXPECT_EQ(check_against(good_descriptor(a), good_descriptor(b), kMachine) == Rule::kNone, a != b);
        }
    }
}

TEST(Descriptor, FurtherInstancesAreSharedWithNobody)
{
    dt::Descriptor mine = good_descriptor(1);
    mine.further_vtpms[0] = 21;
    mine.further_vtpms[1] = 22;
    EXPECT_EQ(check_descriptor(mine, kMachine), Rule::kNone);
    dt::Descriptor other = good_descriptor(2);
    other.further_vtpms[0] = 23;
    EXPECT_EQ(check_against(mine, other, kMachine), Rule::kNone);
    other.further_vtpms[1] = 22;
    EXPECT_EQ(check_against(mine, other, kMachine), Rule::kOtherInstance);
    other = good_descriptor(2);
    other.vtpm_instance = 21;
    EXPECT_EQ(check_against(mine, other, kMachine), Rule::kOtherInstance);
}

TEST(Descriptor, RamMayLieWhereTheDomainHasNoFurtherWindow)
{
    dt::Descriptor d = good_descriptor(1);
    d.further_vtpms[0] = 21;
    d.ranges[1].gpa = dt::vtpm_window(2);
    d.ranges[1].size = dt::kPageSize;
    EXPECT_EQ(check_descriptor(d, kMachine), Rule::kNone);
}

TEST(Descriptor, EveryThingSharedWithAnotherDomainIsFound)
{
    const dt::Descriptor mine = good_descriptor(1);
    const auto check = [&](Rule rule, auto change) {
        dt::Descriptor other = good_descriptor(2);
        change(other);
        EXPECT_EQ(check_against(mine, other, kMachine), rule);
    };
    check(Rule::kOtherCores, [&](auto &o) { o.core_mask |= mine.core_mask; });
    check(Rule::kOtherInstance, [&](auto &o) { o.vtpm_instance = mine.vtpm_instance; });
    check(Rule::kOtherInstance, [&](auto &o) { o.further_vtpms[7] = mine.vtpm_instance; }); // a draft, gap and all
    check(Rule::kOtherRam, [&](auto &o) { o.ranges[0].hpa = mine.ranges[1].hpa + mine.ranges[1].size - 0x1000; });
    check(Rule::kOtherRam, [&](auto &o) { o.ranges[1] = {kMib, 0, 2048 * kMib}; }); // swallows it
    check(Rule::kOtherWindow,
          [&](auto &o) { o.windows[1].base = mine.windows[1].base + mine.windows[1].size - 0x1000; });
    const auto ecam = [](const dt::Descriptor &d) { return ecam_of(d.root_ports[0], kMachine).base; };
    check(Rule::kOtherWindow, [&](auto &o) { o.windows[0] = {ecam(mine) + 0xF'F000, 0x1000}; });
    check(Rule::kOtherWindow, [&](auto &o) { // mine shows its bus
        o.windows[0] = {};
        o.window_count = 0;
        o.root_ports[0].secondary = mine.root_ports[0].secondary;
    });
    check(Rule::kOtherRootPort, [&](auto &o) { o.root_ports[0].devfn = mine.root_ports[0].devfn; });
}

TEST(Descriptor, ADraftOfAnotherDomainMayHoldAnything)
{
    dt::Descriptor draft;
    for (const int fill : {0, 0x5A, 0xFF}) {
        std::memset(static_cast<void *>(&draft), fill, sizeof(draft));
        draft.core_mask = 0;
        (void)check_against(good_descriptor(1), draft,
                            kMachine); // counts of four thousand million stay inside the tables
    }
    SUCCEED();
}

static_assert(!overlaps(0, 0x1000, 0x1000, 0x1000) && overlaps(0, 0x1001, 0x1000, 1) && !overlaps(5, 0, 0, 10));
static_assert(overlaps(~0ULL - 1, 2, ~0ULL, 1) && overlaps(0, ~0ULL, 5, ~0ULL));
static_assert(inside(5, 5, 0, 10) && !inside(6, 5, 0, 10) && !inside(~0ULL, 2, 0, ~0ULL) && inside(~0ULL, 1, ~0ULL, 1));

} // namespace
} // namespace banyan::domain
