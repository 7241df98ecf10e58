// SPDX-License-Identifier: GPL-2.0-or-later
// Instances that get their first state.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

#include "vtpm/engine/keeper.hpp"
#include "vtpm/engine/manufacture.hpp"

namespace banyan::vtpm {

/// One that never had a state: no anchor, and no file or one without a record, made ahead.
bool Keeper::may_make(std::uint32_t instance) const
{
    const Kept &kept = kept_[instance];
    if (makes_in_.empty() || !generations_) {
        return false;
    }
    return !kept.store && (kept.missing == Errc::kNotFound || kept.missing == Errc::kCorrupt) &&
           !Anchor(generations_, key_, instance).now();
}

Result<std::unique_ptr<StoreFile>> Keeper::empty_file(std::uint32_t instance) const
{
    const std::string path = instance_file(makes_in_, instance, "nvstore");
    BANYAN_TRY(auto file, options_.open_file(path, O_RDWR | O_CREAT | O_TRUNC));
    if (const Status room = Store::prepare(*file); !room) {
        return fail(room.error());
    }
    const int names = open_names(instance); // empty until the TPM has some, but there, with one flush of the folder
    if (names < 0) {
        return fail(Errc::kIo);
    }
    ::close(names);
    if (const Status there = sync_folder_of(path); !there) {
        return fail(there.error());
    }
    return file;
}

int Keeper::open_names(std::uint32_t instance) const
{
    const std::string path = instance_file(makes_in_, instance, "names");
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/// Files for the instances that come next, as many as there are states for: whoever gets one does not wait for a disk
/// that looks for room. Others' files are made when they are asked for.
void Keeper::prepare_files()
{
    std::size_t wanted = held_ ? stock_.size() : 0; // else another machine's folder
    for (std::uint32_t i = 0; i < kept_.size() && wanted > 0 && !makes_in_.empty(); ++i) {
        if (kept_[i].unborn || !may_make(i)) {
            continue;
        }
        --wanted;
        if (!kept_[i].ready) {
            if (auto file = empty_file(i)) {
                kept_[i].ready = std::move(*file);
            }
            return; // one at a time: commits wait meanwhile
        }
    }
}

Result<Store> Keeper::new_store(std::uint32_t instance, const Bytes &state, const SignerNames &names)
{
    SnapshotSubject &subject = kept_[instance].subject;
    if (makes_in_.empty()) {
        subject.names = names;
        const int memory = ::memfd_create("banyan-vtpm-store", MFD_CLOEXEC);
        if (memory < 0) {
            return fail(Errc::kNoSpace);
        }
        return Store::adopt_empty(std::make_unique<DiskFile>(memory), key_, instance, std::nullopt, state);
    }
    if (!kept_[instance].ready) {
        BANYAN_TRY(kept_[instance].ready, empty_file(instance));
    }
    const std::string json = names_json({names.ek, names.ek_size}, {names.iak, names.iak_size});
    subject.tpm = tpm_id_of_text(json);
    const int file = open_names(instance);
    const bool named = file >= 0 && ::write(file, json.data(), json.size()) == static_cast<ssize_t>(json.size()) &&
                       ::fdatasync(file) == 0; // a TPM that was told of has its names after a power cut too
    if (file >= 0) {
        ::close(file);
    }
    if (!named) {
        return fail(Errc::kIo);
    }
    // No record is durable yet: that comes with the worker's first commit, before the instance is ready.
    return Store::begin(std::move(kept_[instance].ready), key_, instance, Anchor(generations_, key_, instance), state);
}

/// The state leaves the stock first: whatever goes wrong after that, no other instance gets it.
void Keeper::create(std::uint32_t instance, std::uint32_t ticket, const SignerNames &names)
{
    if (auto state = stock_.take(ticket)) {
        kept_[instance].unborn = std::make_unique<Unborn>(std::move(*state), names);
        return;
    }
    KeeperMessage missing;
    missing.tell = KeeperTell::kMissing;
    missing.instance = instance;
    outbox_.answer(missing);
}

/// A disk that was full is tried again with the next worker.
Status Keeper::be_born(std::uint32_t instance)
{
    Kept &kept = kept_[instance];
    if (!kept.unborn || kept.store) {
        return {};
    }
    if (!makes_in_.empty() && !may_make(instance)) { // another machine has made one meanwhile
        kept.unborn.reset();
        return {};
    }
    BANYAN_TRY(auto store, new_store(instance, kept.unborn->state, kept.unborn->names));
    kept.store = std::make_unique<Store>(std::move(store));
    if (kept.store->record().generation != 0) {
        kept.unborn.reset();
    }
    return {};
}

} // namespace banyan::vtpm
