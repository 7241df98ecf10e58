// SPDX-License-Identifier: GPL-2.0-or-later
// The window with a FIFO in it.
#include "tests/fuzz/vtpm/window_fuzz.hpp"
#include "vtpm/chip/tis_regs.hpp"

namespace {

using namespace banyan::vtpm;
using fuzz::require;

void check(Instance &instance)
{
    unsigned active = 0;
    for (std::uint32_t page = 0; page < kLocalities * kPageSize; page += kPageSize) {
        const auto access = static_cast<std::uint8_t>(instance.read(page, 1, 0));
        if (access != 0xff) {
            active += tis::Access::ActiveLocality::get(access) ? 1 : 0;
            require(!tis::Access::Seize::get(access));
        }
    }
    require(active <= 1);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    return fuzz::run({InterfaceKind::kTis, kTpmBufferSize, static_cast<std::uint32_t>(tis::Reg::kDataFifo), 0, check},
                     data, size);
}
