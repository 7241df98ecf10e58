// SPDX-License-Identifier: GPL-2.0-or-later
// What a store file says, for people. Reads alone; the file may be anything.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "vtpm/store/store.hpp"

namespace banyan::vtpm {

struct SlotFacts {
    enum class Mac : std::uint8_t { kUnverified, kHolds, kFails };

    bool well_formed = false; // else what follows says nothing
    std::uint32_t instance = 0;
    std::uint64_t generation = 0;
    bool established = false;
    std::uint32_t size = 0; // of the permanent state
    Mac mac = Mac::kUnverified;
    bool current = false; // the record that counts
};

struct StoreFacts {
    enum class Verdict : std::uint8_t {
        kUnverified, // without a key nothing is known
        kCurrent,
        kRolledBack,
        kUnanchored,
        kErased,
        kDamaged,
    };

    std::array<SlotFacts, 2> slots;
    std::optional<std::uint64_t> anchored; // generation acknowledged last
    Verdict verdict = Verdict::kUnverified;
};

/// key and generations may be null. The instance is the slots' own.
[[nodiscard]] StoreFacts inspect_store(StoreFile &file, const StoreKey *key, std::shared_ptr<StoreFile> generations);

} // namespace banyan::vtpm
