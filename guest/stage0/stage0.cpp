// SPDX-License-Identifier: GPL-2.0-or-later
#include "banyan/arch/boot_info.hpp"
#include "guest/common/own_page.hpp"

extern "C" [[noreturn]] void stage0_main();

using namespace banyan;

void stage0_main()
{
    if (guest::in_domain()) {
        while (guest::own_read<std::uint32_t>(dt::own::kGate) != 1) {
            asm volatile("pause");
        }
    }
    // SKINIT resets the core and enters the secure loader. Should it fault, there is no IDT: the domain shuts down,
    // which is the end that a start without a launch deserves.
    asm volatile("skinit %%eax" : : "a"(static_cast<std::uint32_t>(boot::kSlb)) : "memory");
    for (;;) {
        asm volatile("cli; hlt");
    }
}
