// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>

// Messages for whoever develops with this: port 0xE9 (QEMU's debug console). In a domain the port is denied and they
// vanish; there the end of the domain and its PCRs are what is seen.

namespace banyan::loader {

inline constexpr std::uint16_t kDebugPort = 0xE9;

inline void put(const char *text)
{
    for (; *text != '\0'; ++text) {
        asm volatile("outb %0, %1" : : "a"(*text), "Nd"(kDebugPort));
    }
}

inline void put_hex(std::uint64_t value)
{
    char text[19] = "0x";
    unsigned digits = 1;
    while (digits < 16 && value >> (4 * digits) != 0) {
        ++digits;
    }
    for (unsigned i = 0; i < digits; ++i) {
        text[2 + i] = "0123456789abcdef"[value >> (4 * (digits - 1 - i)) & 0xF];
    }
    text[2 + digits] = '\0';
    put(text);
}

} // namespace banyan::loader
