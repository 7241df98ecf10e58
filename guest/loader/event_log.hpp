// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <span>

#include "guest/loader/hash/digest.hpp"

namespace banyan::loader {

/// TPM algorithm identifiers. TPM 2.0 Library, part 2, 6.3.
enum class Alg : std::uint16_t {
    kSha1 = 0x0004,
    kSha256 = 0x000B,
    kSha384 = 0x000C,
    kSha512 = 0x000D,
    kSm3_256 = 0x0012,
    kSha3_256 = 0x0027,
    kSha3_384 = 0x0028,
    kSha3_512 = 0x0029,
};

/// A crypto-agile event log. TCG PC Client Platform Firmware Profile 1.05, section 10. Zeroes the whole area first:
/// readers stop at the first empty event. What does not fit is refused, never cut.
class EventLog {
public:
    explicit EventLog(std::span<std::uint8_t> area);

    [[nodiscard]] bool append(std::uint32_t pcr, std::uint32_t type, const Digests &digests, const char *text);

    std::size_t size() const { return used_; }

private:
    void put(std::uint64_t value, unsigned bytes);
    void put(Bytes bytes);

    std::span<std::uint8_t> area_;
    std::size_t used_ = 0;
};

} // namespace banyan::loader
