// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/store/anchor.hpp"

#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

namespace banyan::vtpm {
namespace {

constexpr char kMagic[8] = {'B', 'A', 'N', 'Y', 'A', 'N', 'G', 'N'};
constexpr std::uint32_t kVersion = 1;
constexpr off_t kSlotSize = 4096; // no write of a slot touches another's block

struct AnchorSlot {
    char magic[8];
    std::uint32_t version;
    std::uint32_t instance;
    std::uint64_t sequence; // the higher is the newer
    std::uint64_t generation;
    std::uint8_t record[kStoreMacSize];
    std::uint8_t mac[kStoreMacSize]; // of all before
};
static_assert(sizeof(AnchorSlot) == 96 && offsetof(AnchorSlot, mac) == 64);

off_t place_of(std::uint32_t instance, unsigned slot)
{
    return (off_t{instance} * 2 + slot) * kSlotSize;
}

std::span<const std::uint8_t> signed_part(const AnchorSlot &slot)
{
    return {reinterpret_cast<const std::uint8_t *>(&slot), offsetof(AnchorSlot, mac)};
}

bool read_slot(StoreFile &file, const StoreKey &key, std::uint32_t instance, unsigned number, AnchorSlot &slot)
{
    StoreMac mac{};
    return read_whole(file, &slot, sizeof(slot), place_of(instance, number)).has_value() &&
           std::memcmp(slot.magic, kMagic, sizeof(kMagic)) == 0 && slot.version == kVersion &&
           slot.instance == instance && store_mac(key, {signed_part(slot)}, mac) && same_mac(slot.mac, mac);
}

} // namespace

Anchor::Anchor(std::shared_ptr<StoreFile> file, const StoreKey &key, std::uint32_t instance)
    : file_(std::move(file)),
      key_(key),
      instance_(instance)
{
    for (unsigned number = 0; number < 2; ++number) {
        AnchorSlot slot{};
        if (read_slot(*file_, key_, instance_, number, slot) && (!now_ || slot.sequence > sequence_)) {
            now_.emplace();
            now_->generation = slot.generation;
            std::memcpy(now_->record.data(), slot.record, kStoreMacSize);
            sequence_ = slot.sequence;
            target_ = number;
        }
    }
}

Status Anchor::rewrite()
{
    if (!now_) {
        return fail(Errc::kNotFound);
    }
    AnchorSlot slot{};
    std::memcpy(slot.magic, kMagic, sizeof(kMagic));
    slot.version = kVersion;
    slot.instance = instance_;
    slot.sequence = sequence_;
    slot.generation = now_->generation;
    std::memcpy(slot.record, now_->record.data(), kStoreMacSize);
    StoreMac mac{};
    if (!store_mac(key_, {signed_part(slot)}, mac)) {
        return fail(Errc::kIo);
    }
    std::memcpy(slot.mac, mac.data(), kStoreMacSize);
    return write_whole(*file_, &slot, sizeof(slot), place_of(instance_, target_));
}

void Anchor::settled()
{
    const bool first_look = doubt_ == Doubt::kBoth;
    doubt_ = first_look ? Doubt::kTarget : Doubt::kNone;
    target_ = 1 - target_;
    // The other slot may hold what an earlier process wrote and could not flush, whatever it seems to hold: go above.
    sequence_ = first_look ? (sequence_ | 0xffff'ffffU) + 1 : sequence_ + 1;
}

Status Anchor::write(const Anchored &value)
{
    const auto before = std::exchange(now_, value);
    Status done = rewrite();
    if (done && file_->sync() != 0) {
        done = fail(Errc::kIo);
    }
    if (done) {
        settled();
    } else {
        now_ = before;
    }
    return done;
}

Status Anchor::settle()
{
    while (now_ && in_doubt()) {
        if (const Status done = write(*now_); !done) {
            return done;
        }
    }
    return {};
}

Status Anchor::advance(const Anchored &next)
{
    if (const Status known = settle(); !known) {
        return known;
    }
    doubt_ = Doubt::kTarget;
    const Status done = write(next);
    if (!done) {     // the disk may hold either: take it back at once, or before anything else is written
        ++sequence_; // in the same slot, above what may be there
        (void)settle();
    }
    return done;
}

void settle_all(std::span<Anchor *const> anchors, StoreFile *file)
{
    for (int step = 0; step < 2; ++step) {
        std::vector<Anchor *> rewritten;
        for (Anchor *anchor : anchors) {
            if (anchor->in_doubt() && anchor->rewrite()) {
                rewritten.push_back(anchor);
            }
        }
        if (rewritten.empty() || file->sync() != 0) {
            return;
        }
        for (Anchor *anchor : rewritten) {
            anchor->settled();
        }
    }
}

std::string generations_file(const std::string &private_folder)
{
    return private_folder + "/generations";
}

} // namespace banyan::vtpm
