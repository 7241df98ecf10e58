// SPDX-License-Identifier: GPL-2.0-or-later
// TPMs made ahead of the instances that will be them. The zygote has the order of things (Pool), the keeper the states
// (Stock): the zygote forks guest-facing workers, which must not find another TPM's seeds in their memory.
//
// A state is in exactly one place: a maker's memory file, the stock, or one instance's store. It never is on a disk
// before it is an instance's, so whatever dies on the way, nobody gets it twice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "vtpm/engine/roles.hpp"

namespace banyan::vtpm {

inline constexpr std::uint32_t kPoolDepth = 16;   // ready ones at most
inline constexpr std::uint32_t kMakersAtOnce = 2; // for those who wait; in the background there is one

/// Which maker to start, and who gets which TPM. Pure: the zygote acts.
class Pool {
public:
    /// unmade: instances that may still ask.
    explicit Pool(std::uint32_t unmade) : unmade_(unmade) {}

    struct Grant {
        std::uint32_t instance = 0;
        std::uint32_t ticket = 0; // of the state in the stock
        SignerNames names;
    };

    void want(std::uint32_t instance);
    void forget(std::uint32_t instance); // it does not wait any more
    /// Whom the next ready TPM goes to. Each ticket is granted once.
    [[nodiscard]] std::optional<Grant> grant();
    /// A ready TPM for an instance that has not asked yet. None while others wait.
    [[nodiscard]] std::optional<Grant> grant_ahead(std::uint32_t instance);

    /// What was granted did not arrive: its instance may ask again.
    void lost() { ++unmade_; }
    /// The state of this ticket is nowhere. If nobody has been given it, nobody will be; and as after failed(), none is made
    /// ahead until somebody asks.
    void spoilt(std::uint32_t ticket);

    enum class Need : std::uint8_t { kNone, kUrgent, kAhead };
    /// What to start now; the caller starts it and says begun().
    [[nodiscard]] Need need() const;
    void begun(Need maker);
    /// A maker ended; its state is in the stock under the ticket that is returned.
    [[nodiscard]] std::uint32_t made(Need maker, const SignerNames &names);
    /// Nothing came of it: who waited longest waits in vain. None is made ahead until one comes out well.
    [[nodiscard]] std::optional<std::uint32_t> failed(Need maker);

private:
    struct Ready {
        std::uint32_t ticket = 0;
        SignerNames names;
    };
    void ended(Need maker);
    [[nodiscard]] Grant give(std::uint32_t instance);

    std::uint32_t unmade_;
    std::uint32_t urgent_ = 0; // makers that run
    std::uint32_t ahead_ = 0;
    bool works_ = true;
    std::uint32_t next_ticket_ = 1;
    std::deque<Ready> ready_;
    std::deque<std::uint32_t> waiting_;
};

/// The states themselves.
class Stock {
public:
    Stock() = default;
    ~Stock();
    Stock(const Stock &) = delete;
    Stock &operator=(const Stock &) = delete;

    /// Reads a maker's memory file and wipes it. False: not a state, or the ticket is taken.
    bool put(std::uint32_t ticket, int file);
    /// Once; the caller wipes what it got.
    [[nodiscard]] std::optional<std::vector<std::uint8_t>> take(std::uint32_t ticket);
    [[nodiscard]] std::size_t size() const { return states_.size(); }

private:
    std::map<std::uint32_t, std::vector<std::uint8_t>> states_;
};

} // namespace banyan::vtpm
