// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/store/store_slot.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace banyan::vtpm {
namespace {

bool mac_of(const StoreKey &key, const SlotHead &head, std::span<const std::uint8_t> blob, StoreMac &out)
{
    return store_mac(key, {{reinterpret_cast<const std::uint8_t *>(&head), offsetof(SlotHead, mac)}, blob}, out);
}

} // namespace

bool head_well_formed(const SlotHead &head, unsigned slot)
{
    return std::memcmp(head.magic, kStoreMagic, sizeof(kStoreMagic)) == 0 && head.version == kStoreVersion &&
           head.size != 0 && head.size <= kPermanentMax && head.generation % 2 == slot;
}

bool read_slot(StoreFile &file, const StoreKey &key, std::uint32_t instance, unsigned slot, StoreRecord &record)
{
    SlotHead head{};
    const off_t at = slot_of(slot);
    if (!read_whole(file, &head, sizeof(head), at) || !head_well_formed(head, slot) || head.instance != instance) {
        return false;
    }
    Bytes blob(head.size);
    StoreMac mac{};
    if (!read_whole(file, blob.data(), blob.size(), at + static_cast<off_t>(kBlobAt)) ||
        !mac_of(key, head, blob, mac) || !same_mac(head.mac, mac)) {
        return false;
    }
    record = {head.generation, (head.flags & kFlagEstablished) != 0, std::move(blob), mac,
              head.flags >> kRestoresShift};
    return true;
}

Status write_slot(StoreFile &file, const StoreKey &key, std::uint32_t instance, const StoreRecord &record,
                  StoreMac &mac)
{
    const Bytes &blob = record.permanent;
    if (blob.empty() || blob.size() > kPermanentMax) {
        return fail(Errc::kBadArgument);
    }
    SlotHead head{};
    std::memcpy(head.magic, kStoreMagic, sizeof(kStoreMagic));
    head.version = kStoreVersion;
    head.instance = instance;
    head.generation = record.generation;
    head.flags = (record.established ? kFlagEstablished : 0) |
                 static_cast<std::uint32_t>(std::min(record.restores, kRestoresMax)) << kRestoresShift;
    head.size = static_cast<std::uint32_t>(blob.size());
    if (!mac_of(key, head, blob, mac)) {
        return fail(Errc::kIo);
    }
    std::memcpy(head.mac, mac.data(), kStoreMacSize);
    const off_t at = slot_of(record.generation);
    // One flush for both: a torn slot fails its MAC, and the other slot is whole.
    Status done = write_whole(file, blob.data(), blob.size(), at + static_cast<off_t>(kBlobAt));
    if (done) {
        done = write_whole(file, &head, sizeof(head), at);
    }
    if (done && file.sync() != 0) {
        done = fail(Errc::kIo);
    }
    return done;
}

} // namespace banyan::vtpm
