// SPDX-License-Identifier: GPL-2.0-or-later
// One slot of a store file: docs/spec/vtpm.md, "Store file". All numbers little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "banyan/base/result.hpp"
#include "vtpm/store/store.hpp"

namespace banyan::vtpm {

inline constexpr char kStoreMagic[8] = {'B', 'A', 'N', 'Y', 'A', 'N', 'N', 'V'};
inline constexpr std::uint32_t kStoreVersion = 1;
inline constexpr std::uint32_t kFlagEstablished = 1;
inline constexpr unsigned kRestoresShift = 16; // upper half of the flags
inline constexpr std::uint64_t kRestoresMax = 0xffff;
inline constexpr off_t kSlotSize = off_t{132} * 1024; // head in the first 4 KiB, blob after it
inline constexpr std::size_t kBlobAt = 4096;

struct SlotHead {
    char magic[8];
    std::uint32_t version;
    std::uint32_t instance;
    std::uint64_t generation;
    std::uint32_t flags;
    std::uint32_t size;              // of the blob
    std::uint8_t mac[kStoreMacSize]; // of the head up to here, then the blob
};
static_assert(sizeof(SlotHead) == 64 && offsetof(SlotHead, mac) == 32);
static_assert(kBlobAt + kPermanentMax <= static_cast<std::size_t>(kSlotSize));

/// Generation g lies in slot g mod 2.
[[nodiscard]] constexpr off_t slot_of(std::uint64_t generation)
{
    return static_cast<off_t>(generation % 2) * kSlotSize;
}

/// The head's form, whatever its MAC says.
[[nodiscard]] bool head_well_formed(const SlotHead &head, unsigned slot);
/// False: not there, malformed, another instance's, or the MAC does not hold.
[[nodiscard]] bool read_slot(StoreFile &file, const StoreKey &key, std::uint32_t instance, unsigned slot,
                             StoreRecord &record);
/// Durable on success. mac: of the record.
[[nodiscard]] Status write_slot(StoreFile &file, const StoreKey &key, std::uint32_t instance, const StoreRecord &record,
                                StoreMac &mac);

} // namespace banyan::vtpm
