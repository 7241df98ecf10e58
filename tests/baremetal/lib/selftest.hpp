// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "tests/baremetal/lib/x86.hpp"

// Self tests of a bare-metal program. On core 0 they run one after the other; a failed expectation ends the program, and
// the runner starts the machine again behind the failed test. In a domain (the same program, a copy of it in the domain's
// RAM) a failed expectation ends the domain, and the host's copy reports it.

namespace banyan::bare {

struct Case {
    const char *name;
    void (*run)();
};

[[noreturn]] void fail_expectation(const char *expression, const char *file, int line);
[[noreturn]] void fail_expectation(const char *expression, const char *file, int line, u64 seen, u64 expected);

/// The condition under which a test cannot run here; ends it.
[[noreturn]] void skip(const char *condition);
/// The test could not be carried out, which says nothing about its claim.
[[noreturn]] void give_up(const char *reason);

inline void expect_equal(u64 seen, u64 expected, const char *expression, const char *file, int line)
{
    if (seen != expected) {
        fail_expectation(expression, file, line, seen, expected);
    }
}

// ---- words to the runner ------------------------------------------------------------------------------------------------

void say(const char *text);
void say_hex(u64 value);

/// A question to the runner, and its answer as a number; the test gives up if it has none.
///   report PATH    a number of the domain table's report, for example domains.1.denied.port
///   vtpm PATH      the same of the vTPM's
///   pcr17 BANK ADDRESS SIZE BYTE   byte BYTE of extend(0.., hash(physical memory)), computed apart from us
///   extended TIMES FILL BYTE       byte BYTE of a SHA-256 PCR that was 0 and was extended by 32 bytes of FILL
///   sleep MS       0, after so many milliseconds of host time
///   nmi            0, after a press of the NMI button
void begin_question();
u64 end_question();
void say_decimal(u64 value);

inline void say_part(const char *text)
{
    say(text);
}
inline void say_part(u64 value)
{
    say_decimal(value);
}

template <typename... Parts>
u64 ask(Parts... parts)
{
    begin_question();
    (say_part(parts), ...);
    return end_question();
}

/// Resets the machine; the program begins again, in the same test, with boot_phase() one higher.
[[noreturn]] void reset_machine();
/// How often this test has seen the machine start before.
u32 boot_phase();
/// The next start of the machine, whoever resets it, is phase `phase` of this test.
void expect_reset(u32 phase);
/// Whether the program was started with this word on its command line.
bool machine_has(const char *word);

} // namespace banyan::bare

/// BANYAN_SELFTEST(reads_outside_its_ranges_are_ones) { ... }   one file may hold many. The name is the claim.
#define BANYAN_SELFTEST(id)                                                                                            \
    static void selftest_##id();                                                                                       \
    [[gnu::used, gnu::section("banyan_selftests")]] static const ::banyan::bare::Case selftest_case_##id{              \
        #id, selftest_##id};                                                                                           \
    static void selftest_##id()

#define BANYAN_EXPECT(expression)                                                                                      \
    ((expression) ? void() : ::banyan::bare::fail_expectation(#expression, __FILE__, __LINE__))

/// Prints both values when they differ.
#define BANYAN_EXPECT_EQ(seen, expected)                                                                               \
    ::banyan::bare::expect_equal(static_cast<::banyan::bare::u64>(seen), static_cast<::banyan::bare::u64>(expected),   \
                                 #seen " == " #expected, __FILE__, __LINE__)
