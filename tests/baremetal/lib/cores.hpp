// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "tests/baremetal/lib/x86.hpp"

// The other cores: they wait, halted, for work. The same in the host and in a domain.

namespace banyan::bare {

inline constexpr u32 kCores = 8;
inline constexpr u32 kTrampoline = 0x8000;
inline constexpr u8 kWakeVector = 0x40;

/// Brings core `number` (its local APIC id) up by INIT and SIPI; fails the test if it does not come.
void start_core(u32 number, bool with_init = true);
/// As start_core, and true if it came.
bool try_start_core(u32 number, bool with_init, u64 limit);
/// Puts the trampoline where a SIPI finds it.
void prepare_trampoline(u32 number);
/// Whether the core waits for work.
bool core_is_idle(u32 number);

/// Gives an idle core something to do.
void begin_on(u32 number, void (*job)(u64), u64 argument);
/// False: it still works.
bool finished_on(u32 number, u64 limit = 20 * kSecond);
/// begin_on and finished_on; fails the test if the core does not finish.
void run_on(u32 number, void (*job)(u64), u64 argument = 0);

} // namespace banyan::bare
