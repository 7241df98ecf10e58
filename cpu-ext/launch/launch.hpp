// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "banyan/arch/domain_table.hpp"
#include "banyan/base/result.hpp"
#include "cpu-ext/launch/launch_facts.hpp"
#include "cpu-ext/launch/launch_state.hpp"

namespace banyan::launch {

using Digest = std::array<std::uint8_t, 48>; // SHA-384
using Block = std::array<std::uint8_t, kSlbSize>;

enum class Drtm : std::uint8_t { kStart, kData, kEnd, kAbort };
enum class Poll : std::uint8_t { kBusy, kDone, kFailed };

struct Config {
    std::uint64_t hash_rate; // bytes per second, 0: no transfer time
    bool serial;
    std::uint64_t poll_ns;
};

struct Times { // virtual
    std::int64_t start_ns, hash_start_ns, hash_end_ns, entry_ns, wait_for_other_domain_ns;
};

struct EntryState {
    std::uint32_t slb, eip, esp, measured;
};

class Host {
public:
    Host() = default;
    Host(const Host &) = delete;
    Host &operator=(const Host &) = delete;
    virtual ~Host() = default;

    virtual void window(std::uint32_t domain, std::uint64_t slb, bool closed) = 0;
    virtual bool drained(std::uint32_t domain) = 0;
    virtual bool read_slb(std::uint32_t domain, std::uint64_t slb, Block &out) = 0;
    virtual bool drtm(std::uint32_t domain, Drtm step, std::span<const std::uint8_t> data) = 0;
    virtual Poll drtm_poll(std::uint32_t domain) = 0;
    /// Takes a copy, returns at once; one at a time for a domain. digest(): nullopt while it is being computed.
    virtual void digest_begin(std::uint32_t domain, std::span<const std::uint8_t> data) = 0;
    virtual std::optional<Digest> digest(std::uint32_t domain) = 0;
    virtual void enter(std::uint32_t core, std::uint32_t domain, const EntryState &entry, const Digest &digest,
                       const Times &times) = 0;
};

/// Launches of all domains. Each is on its own; only the serial mode lets them wait for each other. Big lock.
class Launches {
public:
    static constexpr std::uint32_t kDomains = dt::kMaxDomains + 1; // the host launches too

    Launches(const Config &config, Host &host) : config_(config), host_(host) {}
    Launches(const Launches &) = delete;
    Launches &operator=(const Launches &) = delete;
    ~Launches() = default;

    /// The time of the first tick.
    Result<std::int64_t> begin(std::uint32_t core, std::uint32_t domain, std::uint64_t slb, std::int64_t now);

    enum class Progress : std::uint8_t { kBusy, kEntered };
    /// kBusy: come again at `next`. An error: no launch is open (any more).
    Result<Progress> tick(std::uint32_t domain, std::int64_t now, std::int64_t &next);

    void cancel(std::uint32_t domain);
    void reset();
    [[nodiscard]] bool is_open(std::uint32_t domain) const;

private:
    struct Launch {
        State state = State::kClosed;
        std::uint32_t core = 0;
        std::uint64_t slb = 0;
        std::uint64_t ticket = 0; // order of begin()
        bool waited = false;      // the arbiter has made it wait
        std::uint32_t hashed = 0; // bytes whose HASH_DATA is done
        std::uint32_t measured = 0;
        std::int64_t transfer_start = 0; // when the bus became free for the first byte
        std::int64_t cycle_end = 0;      // of the bus cycle of the step under way
        bool lost = false;               // the host refused a hash step
        Times times{};
        std::optional<Digest> digest;
        std::unique_ptr<Block> block;
    };

    [[nodiscard]] bool granted(const Launch &launch) const;
    [[nodiscard]] std::uint32_t chunk(const Launch &launch) const;
    [[nodiscard]] std::int64_t arrival(const Launch &launch) const;
    /// What has happened since; nothing: look again at `next`.
    [[nodiscard]] std::optional<Event> observe(std::uint32_t domain, std::int64_t now, std::int64_t &next);
    [[nodiscard]] bool digested(std::uint32_t domain);
    /// false: the host refused the hash step that was to be posted.
    [[nodiscard]] bool perform(std::uint32_t domain, Action action, std::int64_t now);
    void enter(std::uint32_t domain, std::int64_t now);
    [[nodiscard]] std::uint16_t header(const Launch &launch, std::uint32_t offset) const;

    const Config config_;
    Host &host_;
    std::array<Launch, kDomains> launches_{};
    std::uint64_t next_ticket_ = 0;
};

} // namespace banyan::launch
