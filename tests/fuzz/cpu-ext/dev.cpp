// SPDX-License-Identifier: GPL-2.0-or-later
#include <cstdint>

#include "cpu-ext/dma/dev_registers.hpp"
#include "require.hpp"

// Any sequence of configuration accesses of any domains: a window is lifted only by its own domain, only while it is closed
// and only through one of the two registers that say so.

using namespace banyan;
using namespace banyan::dma;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    constexpr std::size_t kStep = 8;
    DevRegisters registers;
    std::uint32_t closed = 0xFFFF'FFFF; // a bit for each domain
    for (; size >= kStep; data += kStep, size -= kStep) {
        const std::uint32_t domain = data[0] % (dt::kMaxDomains + 2);
        const auto function = static_cast<std::uint8_t>(data[1] & 7);
        // The interesting words, and any other.
        const std::uint16_t places[] = {0xF0, 0xF4, 0xF8, 0x384, static_cast<std::uint16_t>(data[3] << 4)};
        const auto offset = static_cast<std::uint16_t>(places[data[2] % 5] + (data[2] >> 6));
        const unsigned width = data[4] & 7;
        const std::uint32_t value = data[5] | data[6] << 8 | std::uint32_t{data[7]} << 16;
        const bool is_closed = (closed >> domain & 1) != 0;
        if (registers.write(domain, function, offset, width, value, is_closed) == DevWish::kLiftWindow) {
            REQUIRE(is_closed && domain <= dt::kMaxDomains);
            REQUIRE((function == dev::kFunction && (offset & ~3U) == 0xF8) ||
                    (function == dev::kLinkFunction && (offset & ~3U) == dev::kSlbProtection));
            closed &= ~(1U << domain);
        }
        REQUIRE((registers.read(domain, function, offset, false) & 0xFFFF'0000) == 0);
        if ((data[1] & 0x80) != 0) {
            registers.reset(domain);
            REQUIRE(registers.read(domain, dev::kFunction, 0xF4, true) == 0);
            closed |= 1U << domain; // launched again
        }
    }
    return 0;
}
