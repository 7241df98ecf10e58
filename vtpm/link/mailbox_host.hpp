// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>

#include "vtpm/link/futex.hpp"
#include "vtpm/link/instance_link.hpp"
#include "vtpm/link/mailbox.hpp"

namespace banyan::vtpm {

/// QEMU's side of a mailbox whose other side may be hostile: whatever a worker writes, an answer is either well-formed
/// and in the caller's memory, or Answer::Kind::kHostile.
///
/// post(), collect() and cancel() under the owner's lock; pending(), answered(), ready() and sleep() from any thread.
class MailboxHost {
public:
    MailboxHost() = default;
    void attach(Mailbox *box) { box_ = box; }

    /// bytes.size() <= kTpmBufferSize, nothing pending. Wakes a worker that sleeps.
    void post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes);
    [[nodiscard]] std::optional<Answer> collect(std::span<std::uint8_t> into);
    /// Sleeps until the worker's next answer or change of state, at most so long; done: whether what is waited for is
    /// there. True: it is, or something woke us.
    template <typename Done>
    bool sleep(std::uint64_t most_ns, Done done)
    {
        std::atomic_ref<std::uint32_t> sleepers(box_->host.sleepers);
        sleepers.fetch_add(1, std::memory_order_seq_cst);
        const std::uint32_t seen = look(box_->worker.news); // after the line above, before done()
        const bool woken = done() || futex_wait(box_->worker.news, seen, most_ns);
        sleepers.fetch_sub(1, std::memory_order_relaxed);
        return woken;
    }
    /// From now on the worker rings the bell too, or does not.
    void listen(bool yes) { announce(box_->host.listens, yes ? 1 : 0); }
    /// What the worker's own waits go by.
    void tell_crowded(bool yes)
    {
        if (crowded_.exchange(yes, std::memory_order_relaxed) != yes) {
            shared_store(box_->host.crowded, yes ? 1 : 0);
        }
    }
    /// Marks the pending request as one to cancel; the caller wakes the worker.
    void cancel() { shared_store(box_->host.cancel, posted_.load(std::memory_order_relaxed)); }

    [[nodiscard]] bool pending() const { return pending_.load(std::memory_order_relaxed); }
    [[nodiscard]] bool answered() const
    {
        return shared_load(box_->worker.response) != posted_.load(std::memory_order_relaxed) - 1;
    }
    [[nodiscard]] bool ready() const
    {
        return shared_load(box_->worker.state) == static_cast<std::uint32_t>(WorkerState::kReady);
    }
    /// Of a life whose line has ended.
    [[nodiscard]] bool gave_up() const
    {
        return shared_load(box_->worker.end) == static_cast<std::uint32_t>(WorkerEnd::kGaveUp);
    }
    [[nodiscard]] bool established() const { return shared_load(box_->worker.established) != 0; }
    [[nodiscard]] std::uint32_t restores() const { return shared_load(box_->worker.restores); }

private:
    Mailbox *box_ = nullptr;
    Op op_ = Op::kCommand;
    std::atomic<std::uint32_t> posted_{0}; // the mailbox's own copy may be changed by the worker
    std::atomic<bool> pending_{false};
    std::atomic<bool> crowded_{false}; // as the worker was told
};

} // namespace banyan::vtpm
