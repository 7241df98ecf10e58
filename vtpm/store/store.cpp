// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/store/store.hpp"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include "vtpm/store/store_slot.hpp"

namespace banyan::vtpm {
namespace {

/// Blocks are allocated once, so that later commits change no metadata and need no journal write.
Status fill(StoreFile &file)
{
    constexpr std::size_t kUsual = kBlobAt + std::size_t{16} * 1024;
    const Bytes zeros(kUsual);
    for (unsigned slot = 0; slot < 2; ++slot) {
        if (const Status done = write_whole(file, zeros.data(), kUsual, slot_of(slot)); !done) {
            return done;
        }
    }
    return {};
}

Status first_record(StoreFile &file, const StoreKey &key, std::uint32_t instance, std::span<const std::uint8_t> blob,
                    StoreMac &mac)
{
    if (const Status filled = fill(file); !filled) {
        return filled;
    }
    return write_slot(file, key, instance, {1, false, Bytes(blob.begin(), blob.end()), {}, 0}, mac);
}

Status create_file(const std::string &path, const StoreKey &key, std::uint32_t instance,
                   std::span<const std::uint8_t> blob, StoreMac &mac)
{
    BANYAN_TRY(const auto file, open_disk_file(path, O_RDWR | O_CREAT | O_EXCL));
    Status done = first_record(*file, key, instance, blob, mac);
    if (done) {
        done = sync_folder_of(path);
    }
    if (!done) {
        (void)::unlink(path.c_str());
    }
    return done;
}

} // namespace

Status create_store(const std::string &path, const StoreKey &key, std::uint32_t instance,
                    std::span<const std::uint8_t> permanent_blob)
{
    StoreMac mac{};
    return create_file(path, key, instance, permanent_blob, mac);
}

Status create_instance(const std::string &private_folder, const StoreKey &key, std::uint32_t instance,
                       std::span<const std::uint8_t> permanent_blob)
{
    const std::string path = instance_file(private_folder, instance, "nvstore");
    const std::string generations = generations_file(private_folder);
    StoreMac mac{};
    if (const Status made = create_file(path, key, instance, permanent_blob, mac); !made) {
        return made;
    }
    auto file = open_disk_file(generations, O_RDWR | O_CREAT);
    Status done = file ? sync_folder_of(generations) : fail(file.error());
    if (done) {
        done = Anchor(std::move(*file), key, instance).advance({1, mac});
    }
    if (!done) {
        (void)::unlink(path.c_str());
    }
    return done;
}

Result<StoreRecord> load_store(const std::string &path, const StoreKey &key, std::uint32_t instance)
{
    BANYAN_TRY(auto file, open_disk_file(path, O_RDONLY));
    BANYAN_TRY(const Store store, Store::open(std::move(file), key, instance, std::nullopt));
    return store.record();
}

Result<Store> Store::open(const std::string &path, const StoreKey &key, std::uint32_t instance)
{
    BANYAN_TRY(auto file, open_disk_file(path, O_RDWR));
    return open(std::move(file), key, instance, std::nullopt);
}

Result<Store> Store::open(std::unique_ptr<StoreFile> file, const StoreKey &key, std::uint32_t instance,
                          std::optional<Anchor> anchor)
{
    Store store(std::move(file), key, instance, std::move(anchor));
    const Anchored *anchored = store.anchor_ && store.anchor_->now() ? &*store.anchor_->now() : nullptr;
    if (anchored != nullptr && anchored->generation == kErasedGeneration) {
        store.freshness_ = Freshness::kErased;
        if (store.anything_left()) { // the power failed in the middle of it, or the file was put back
            (void)store.overwrite();
        }
        return store;
    }
    bool any = false;
    for (unsigned slot = 0; slot < 2; ++slot) {
        StoreRecord record;
        if (!read_slot(*store.file_, key, instance, slot, record)) {
            continue;
        }
        // With an anchor a newer record than that counts for nothing: its commit was not finished.
        if (anchored != nullptr && record.generation == anchored->generation && record.mac == anchored->record) {
            store.record_ = std::move(record);
            store.freshness_ = Freshness::kCurrent;
            return store;
        }
        if (!any || record.generation > store.record_.generation) {
            store.record_ = std::move(record);
        }
        any = true;
    }
    if (!any) {
        return fail(Errc::kCorrupt);
    }
    if (store.anchor_) {
        store.freshness_ = anchored != nullptr ? Freshness::kRolledBack : Freshness::kUnanchored;
    }
    return store;
}

Result<Store> Store::adopt_empty(std::unique_ptr<StoreFile> file, const StoreKey &key, std::uint32_t instance,
                                 std::optional<Anchor> anchor, std::span<const std::uint8_t> permanent_blob)
{
    Store store(std::move(file), key, instance, std::move(anchor));
    StoreMac mac{};
    Status done = first_record(*store.file_, key, instance, permanent_blob, mac);
    if (done && store.anchor_) {
        done = store.anchor_->advance({1, mac});
    }
    if (!done) {
        return fail(done.error());
    }
    store.record_ = {1, false, Bytes(permanent_blob.begin(), permanent_blob.end()), mac, 0};
    return store;
}

Status Store::prepare(StoreFile &file)
{
    if (const Status filled = fill(file); !filled) {
        return filled;
    }
    return file.sync() == 0 ? Status{} : fail(Errc::kIo);
}

Store Store::begin(std::unique_ptr<StoreFile> file, const StoreKey &key, std::uint32_t instance,
                   std::optional<Anchor> anchor, std::span<const std::uint8_t> permanent_blob)
{
    Store store(std::move(file), key, instance, std::move(anchor));
    store.record_ = {0, false, Bytes(permanent_blob.begin(), permanent_blob.end()), {}, 0};
    return store;
}

Status Store::write_record(std::uint64_t generation, std::span<const std::uint8_t> permanent_blob, bool established,
                           std::uint64_t restores)
{
    if (anchor_) {
        // The slot to be overwritten must not be the one that the disk's anchor names.
        if (const Status known = anchor_->settle(); !known) {
            return known;
        }
    }
    StoreMac mac{};
    StoreRecord next{generation, established, Bytes(permanent_blob.begin(), permanent_blob.end()), {}, restores};
    if (const Status done = write_slot(*file_, key_, instance_, next, mac); !done) {
        // The slot may be whole on the disk although the flush failed: take it back, or a crash would bring up a
        // state that nobody was told of. (With an anchor it would not; it is still better gone.)
        const SlotHead nothing{};
        (void)write_whole(*file_, &nothing, sizeof(nothing), slot_of(generation));
        return done;
    }
    if (anchor_) {
        if (const Status done = anchor_->advance({generation, mac}); !done) {
            return done;
        }
    }
    record_ = std::move(next);
    record_.mac = mac;
    freshness_ = Freshness::kCurrent;
    return {};
}

Status Store::commit(std::span<const std::uint8_t> permanent_blob, bool established)
{
    if (!file_ || freshness_ != Freshness::kCurrent) {
        return fail(Errc::kBadState);
    }
    return write_record(record_.generation + 1, permanent_blob, established, record_.restores);
}

/// A generation above every one that was seen, and never over the record that is there.
std::uint64_t Store::above(std::uint64_t seen) const
{
    const std::uint64_t anchored = anchor_ && anchor_->now() ? anchor_->now()->generation : 0;
    const std::uint64_t next = std::max({record_.generation, anchored, seen}) + 1;
    return next + (next % 2 == record_.generation % 2 ? 1 : 0);
}

Status Store::restore(const StoreRecord &snapshot)
{
    if (!file_ || freshness_ != Freshness::kCurrent || snapshot.generation > kErasedGeneration / 2) {
        return fail(Errc::kBadState);
    }
    const std::uint64_t restores = std::min(std::max(record_.restores, snapshot.restores) + 1, kRestoresMax);
    return write_record(above(snapshot.generation), snapshot.permanent, snapshot.established, restores);
}

Status Store::reload()
{
    if (!file_) {
        return fail(Errc::kBadState);
    }
    std::optional<Anchor> anchor;
    if (anchor_) {
        anchor = anchor_->read_again();
    }
    BANYAN_TRY(auto again, open(std::move(file_), key_, instance_, std::move(anchor)));
    *this = std::move(again);
    return {};
}

Status Store::accept()
{
    if (!file_ || freshness_ == Freshness::kErased) {
        return fail(Errc::kBadState);
    }
    const Bytes permanent = record_.permanent;
    return write_record(above(0), permanent, record_.established, record_.restores);
}

bool Store::anything_left()
{
    Bytes part(kSlotSize);
    const off_t end = file_->size();
    for (off_t at = 0; at < end; at += kSlotSize) {
        part.resize(static_cast<std::size_t>(std::min<off_t>(kSlotSize, end - at)));
        if (!read_whole(*file_, part.data(), part.size(), at) ||
            std::any_of(part.begin(), part.end(), [](std::uint8_t byte) { return byte != 0; })) {
            return true;
        }
    }
    return false;
}

Status Store::overwrite()
{
    const Bytes zeros(kSlotSize);
    const off_t end = file_->size();
    if (end < 0) {
        return fail(Errc::kIo);
    }
    for (off_t at = 0; at < end; at += kSlotSize) {
        const auto size = static_cast<std::size_t>(std::min<off_t>(kSlotSize, end - at));
        if (const Status done = write_whole(*file_, zeros.data(), size, at); !done) {
            return done;
        }
    }
    return file_->sync() == 0 ? Status{} : fail(Errc::kIo);
}

Status Store::erase()
{
    if (!file_) {
        return fail(Errc::kBadState);
    }
    record_ = {};
    freshness_ = Freshness::kErased;
    // The anchor first: whatever happens next, no file of this instance is ever taken again.
    const Status anchored = anchor_ ? anchor_->advance({kErasedGeneration, {}}) : Status{};
    const Status gone = overwrite();
    return gone ? anchored : gone;
}

void warm_up_store()
{
    StoreMac mac{};
    (void)store_mac({}, {}, mac);
}

std::string instance_file(const std::string &private_folder, std::uint32_t instance, const std::string &suffix)
{
    char number[16];
    (void)std::snprintf(number, sizeof(number), "%03u", instance);
    return private_folder + "/instances/" + number + "." + suffix;
}

} // namespace banyan::vtpm
