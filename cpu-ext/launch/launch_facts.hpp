// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>

// The secure loader block. APM 2, 15.27.1 and 15.27.2.

namespace banyan::launch {

inline constexpr std::uint32_t kSlbSize = 0x1'0000;
inline constexpr std::uint32_t kHeaderEntry = 0;        // u16: offset of the first instruction
inline constexpr std::uint32_t kHeaderMeasured = 2;     // u16: bytes that are measured, from offset 0
inline constexpr std::uint32_t kStackOffset = kSlbSize; // ESP = base + 64 KiB

/// The manual gives no meaning to a length of 0. Were nothing measured, every such block would have the same PCR 17; with
/// all 64 KiB measured, no byte that can be reached without leaving the block escapes.
inline constexpr std::uint32_t kMeasuredForZero = kSlbSize;

inline constexpr std::uint32_t kChunk = 4096; // bytes of one HASH_DATA

/// One write cycle to the TPM: 13 clocks of 33 MHz. Low Pin Count Interface Specification 1.1, 4.3.1.1 and 5.3. Each of
/// HASH_START and HASH_END takes one; so does a chunk when its bytes take no time.
inline constexpr std::int64_t kCycleNs = 390;

} // namespace banyan::launch
