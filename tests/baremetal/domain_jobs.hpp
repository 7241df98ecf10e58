// SPDX-License-Identifier: GPL-2.0-or-later
// What the tests of a domain's life share: guests to run, and a try to join.
#pragma once

#include "tests/baremetal/lib/domain.hpp"

namespace banyan::bare {

constexpr u64 kOnes = ~u64{0};
constexpr u64 kSecretAt = 0x20'0000; // of a domain's RAM, far from the program
constexpr u64 kSecret = 0x5EC2'E700'1234'5678;

/// Runs until the host says so, then ends.
inline void waits_for_the_host(u64)
{
    guest::signal(1);
    guest::await(2);
}

/// Keeps a value in RAM while the host tries to change it, and fails if it did.
inline void keeps_a_secret(u64)
{
    const bool kept_before = read<u64>(kSecretAt) == kSecret;
    write<u64>(kSecretAt + 0x1000, kSecret);
    guest::signal(1);
    guest::await(2);
    BANYAN_EXPECT(kept_before);
    for (u64 i = 0; i < 4; ++i) {
        BANYAN_EXPECT_EQ(read<u64>(kSecretAt + i * 8), i == 0 ? kSecret : 0);
    }
    BANYAN_EXPECT_EQ(read<u64>(kSecretAt + 0x1000), kSecret);
}

inline void join_job(u64 domain)
{
    Entering &mine = entering(this_core().number);
    prepare_vmcb(this_core().number);
    mine.exit_code = 0;
    mine.joined = !attempt([=] { wrmsr(dt::kMsrDomain, domain); }).taken;
}

/// Whether the core can join the domain; it leaves again.
inline bool can_join(u32 core, u32 domain)
{
    run_on(core, join_job, domain);
    const bool joined = entering(core).joined;
    run_on(core, join_job, 0);
    return joined;
}

} // namespace banyan::bare
