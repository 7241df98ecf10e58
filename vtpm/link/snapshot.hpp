// SPDX-License-Identifier: GPL-2.0-or-later
// A snapshot of the chip: one part for each instance, sealed by the engine's keeper, framed by the chip. The frame and
// the parts' heads are readable; who reads them takes the bytes for hostile. docs/spec/vtpm.md, "Snapshot".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "banyan/base/result.hpp"
#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {

inline constexpr std::uint32_t kSnapshotVersion = 1;
inline constexpr std::size_t kSnapshotTagSize = 16; // AES-256-GCM

// What one part may hold at most.
inline constexpr std::size_t kSnapshotInterfaceMax = 2 * kTpmBufferSize + 512;
inline constexpr std::size_t kSnapshotNamesMax = 256;
inline constexpr std::size_t kSnapshotPermanentMax = std::size_t{128} * 1024;
inline constexpr std::size_t kSnapshotVolatileMax = std::size_t{96} * 1024;

/// The readable head of a part; authenticated with it.
struct SnapshotHead {
    static constexpr std::size_t kSize = 152;
    static constexpr std::uint32_t kEstablished = 1;

    std::uint32_t instance = 0;
    std::uint32_t count = 0; // of instances in the snapshot
    std::uint32_t flags = 0;
    std::uint64_t generation = 0;            // of the permanent state, when it was saved
    std::uint64_t restores = 0;              // that this TPM had seen by then
    std::array<std::uint8_t, 16> snapshot{}; // one random number for all parts of a snapshot
    std::array<std::uint8_t, 32> machine{};  // machine id, zeros in class test
    std::array<std::uint8_t, 32> tpm{};      // SHA-256 of the instance's names, zeros in class test
    std::uint32_t interface_size = 0;
    std::uint32_t names_size = 0;
    std::uint32_t permanent_size = 0; // 0: no TPM was made yet
    std::uint32_t volatile_size = 0;  // 0: it was off or failed
    std::array<std::uint8_t, 12> nonce{};

    [[nodiscard]] std::size_t text_size() const
    {
        return std::size_t{interface_size} + names_size + permanent_size + volatile_size;
    }
    friend bool operator==(const SnapshotHead &, const SnapshotHead &) = default;
};

inline constexpr std::size_t kSnapshotPartMax = SnapshotHead::kSize + kSnapshotInterfaceMax + kSnapshotNamesMax +
                                                kSnapshotPermanentMax + kSnapshotVolatileMax + kSnapshotTagSize;

/// head and, after it, as much text and tag as it says; for the sealer.
[[nodiscard]] std::vector<std::uint8_t> write_head(const SnapshotHead &head);
/// The head of a part whose size is exactly what the head says.
[[nodiscard]] Result<SnapshotHead> parse_part(std::span<const std::uint8_t> part);

[[nodiscard]] std::vector<std::uint8_t> frame_snapshot(std::span<const std::vector<std::uint8_t>> parts);
/// The parts, in the order of the instances: of one snapshot, of one machine, each once, none missing, nothing else.
[[nodiscard]] Result<std::vector<std::span<const std::uint8_t>>>
parse_snapshot(std::span<const std::uint8_t> bytes, std::uint32_t instances, std::string &why);

} // namespace banyan::vtpm
