// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <sched.h>
#include <unistd.h>

#include "vtpm/link/futex.hpp"
#include "vtpm/link/giving_way.hpp"
#include "vtpm/link/mailbox.hpp"

namespace banyan::vtpm {

/// The worker's side of waiting: for the next request, and for whoever waits for its answer.
class MailboxWorker {
public:
    /// bell: an eventfd for an event loop of the host's, or -1.
    MailboxWorker(Mailbox *box, int bell) : box_(box), bell_(bell) {}

    /// After each answer and each change of state.
    void tell_host()
    {
        announce(box_->worker.news, shared_load(box_->worker.news) + 1);
        if (look(box_->host.sleepers) != 0) {
            futex_wake_all(box_->worker.news);
        }
        if (look(box_->host.listens) != 0) {
            const std::uint64_t one = 1;
            (void)!::write(bell_, &one, sizeof(one));
        }
    }

    /// Until there may be a request after this one. False: none came in most_ns of sleep.
    bool wait(std::uint32_t answered, std::uint64_t most_ns)
    {
        const std::uint64_t begun = monotonic_ns();
        std::uint64_t now = begun;
        const bool crowded = shared_load(box_->host.crowded) != 0;
        for (unsigned turns = 0; now - begun < kYieldNs && giving_way_.turn(turns, now, crowded);
             ++turns, now = monotonic_ns()) {
            if (shared_load(box_->host.request) != answered) {
                return true;
            }
        }
        announce(box_->worker.dozes, 1);
        const bool came = look(box_->host.request) != answered || futex_wait(box_->host.request, answered, most_ns);
        shared_store(box_->worker.dozes, 0);
        return came;
    }

    /// For one that has died: whoever waits for it looks.
    static void tell_of_death(Mailbox *box)
    {
        announce(box->worker.news, shared_load(box->worker.news) + 1);
        futex_wake_all(box->worker.news);
    }

private:
    static constexpr std::uint64_t kYieldNs = 100'000; // then others have the processor for long

    Mailbox *const box_;
    const int bell_;
    GivingWay giving_way_;
};

} // namespace banyan::vtpm
