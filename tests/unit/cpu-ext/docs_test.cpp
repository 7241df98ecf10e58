// SPDX-License-Identifier: GPL-2.0-or-later
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

#include "cpu-ext/access/msr_profile.hpp"
#include "cpu-ext/domain/descriptor_rules.hpp"
#include "cpu-ext/domain/domain_regs.hpp"
#include "cpu-ext/domain/domain_state.hpp"

// docs/spec/domain-table.md says what the tables of the code say, row by row.

namespace banyan::domain {
namespace {

std::string page()
{
    std::ifstream file(BANYAN_SOURCE_DIR "/docs/spec/domain-table.md");
    return {std::istreambuf_iterator<char>(file), {}};
}

std::string hex(unsigned long long value, int digits)
{
    char text[32];
    std::snprintf(text, sizeof(text), "0x%0*llX", digits, value);
    return text;
}

std::string msr_number(std::uint32_t msr)
{
    char text[32];
    std::snprintf(text, sizeof(text), "%04X_%04X", msr >> 16, msr & 0xFFFF);
    return text;
}

std::string msr_numbers(std::uint32_t first, std::uint32_t last)
{
    return first == last ? msr_number(first) : msr_number(first) + ".." + msr_number(last);
}

TEST(DomainTablePage, HasEveryRegister)
{
    const std::string text = page();
    const auto check = [&](std::size_t from, std::size_t to, const RegSpec &spec) {
        const char *access = spec.access == Access::kRead      ? "r"
                             : spec.access == Access::kWrite   ? "w"
                             : spec.access == Access::kIgnored ? "r, writes ignored"
                                                               : "rw";
        const std::string row = "| " + hex(spec.reg, 3) + " | " + std::string(spec.name) + " | " +
                                std::to_string(spec.size) + " | " + access + " |";
        EXPECT_NE(text.substr(from, to - from).find(row), std::string::npos) << row;
    };
    const std::size_t own = text.find("## 2.");
    const std::size_t control = text.find("## 3.");
    const std::size_t states = text.find("## 4.");
    ASSERT_LT(states, text.size());
    for (const RegSpec &spec : kOwnRegs) {
        check(own, control, spec);
    }
    for (const RegSpec &spec : kControlRegs) {
        check(control, states, spec);
    }
}

TEST(DomainTablePage, HasEveryMsr)
{
    const std::string text = page();
    for (const access::MsrFact &fact : access::kMsrProfileLinux) {
        char how[64];
        if (fact.action == dt::MsrAction::kConstant) {
            std::snprintf(how, sizeof(how), "constant 0x%llx", static_cast<unsigned long long>(fact.value));
        } else {
            std::snprintf(how, sizeof(how), "%s", fact.write_mask == 0 ? "pass, writes vanish" : "pass");
        }
        const std::string row = "| " + msr_numbers(fact.first, fact.last) + " | " + std::string(fact.name) + " | " +
                                how + " | " + std::string(fact.reason) + " |";
        EXPECT_NE(text.find(row), std::string::npos) << row;
    }
    for (const access::MsrForbidden &fact : access::kMsrForbidden) {
        const std::string row = "| " + msr_numbers(fact.first, fact.last) + " | " + std::string(fact.name) + " | " +
                                std::string(fact.reason) + " |";
        EXPECT_NE(text.find(row), std::string::npos) << row;
    }
}

TEST(DomainTablePage, HasEveryRuleInItsOrder)
{
    const std::string text = page();
    std::size_t at = 0;
    for (std::size_t i = 1; i < kRules.size(); ++i) {
        const char *status = kRules[i].status == dt::Status::kOverlap         ? "OVERLAP"
                             : kRules[i].status == dt::Status::kBadDescriptor ? "BAD_DESCRIPTOR"
                                                                              : "NO_INSTANCE";
        const std::string row = "| " + std::to_string(i) + " | " + std::string(kRules[i].text) + " | " + status + " |";
        at = text.find(row, at);
        ASSERT_NE(at, std::string::npos) << row;
    }
}

TEST(DomainTablePage, HasEveryStepOfTheStateMachineAndNoOther)
{
    constexpr std::array<const char *, kAllPhases.size()> kPhase{"EMPTY",   "BUILDING", "SEALING", "SEALED",
                                                                 "RUNNING", "STOPPING", "DIRTY"};
    constexpr std::array<const char *, kAllEvents.size()> kEvent{"CREATE", "SEAL",    "STOP",      "DELETE",
                                                                 "ERASE",  "RECEIPT", "READY",     "FAILED",
                                                                 "ENTER",  "END",     "LAST_EXIT", "RESET"};
    const std::string text = page();
    for (const Phase phase : kAllPhases) {
        for (const Event event : kAllEvents) {
            const Step next = step(phase, event);
            const std::string start = std::string("| ") + kPhase[static_cast<std::size_t>(phase)] + " | " +
                                      kEvent[static_cast<std::size_t>(event)] + " | ";
            const std::string row = start + kPhase[static_cast<std::size_t>(next.next)] + " |";
            EXPECT_EQ(text.find(row) != std::string::npos, next.action != Action::kRefuse) << row;
            EXPECT_EQ(text.find(start) != std::string::npos, next.action != Action::kRefuse) << start;
        }
    }
}

} // namespace
} // namespace banyan::domain
