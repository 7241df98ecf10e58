// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "banyan/base/result.hpp"
#include "vtpm/link/control.hpp"
#include "vtpm/link/giving_way.hpp"
#include "vtpm/link/instance_link.hpp"

namespace banyan::vtpm {

struct LinkEvent {
    std::uint32_t instance;
    std::string kind;
    std::string text;
};

/// The engine's processes: a zygote by posix_spawn, and what it forks. Thread safe. Starts no thread: news from the
/// zygote is read when somebody asks.
class EngineLink {
public:
    struct Options {
        std::string engine;
        std::string platform; // empty: class test
        std::uint32_t instances = 1;
        bool accept_rollback = false;
        bool full_sandbox = false;
        std::string snapshot_key; // file, class test alone; empty: no snapshots there
        bool incoming = false;    // a snapshot will come; until then the platform folder is another machine's
    };

    [[nodiscard]] static Result<std::unique_ptr<EngineLink>> start(const Options &options, std::string &why);
    ~EngineLink();
    EngineLink(const EngineLink &) = delete;
    EngineLink &operator=(const EngineLink &) = delete;

    [[nodiscard]] std::unique_ptr<InstanceLink> instance(std::uint32_t index);

    [[nodiscard]] Status sign(std::uint32_t slot, const banyan_report_facts &facts);
    /// 0, BANYAN_BUSY or a negated Errc. wait: until it is there (bounded by the watchdog).
    [[nodiscard]] banyan_status sign_poll(std::uint32_t slot, std::uint8_t *out, std::uint32_t *size, bool wait);

    /// Reads what the zygote has to say; called without any instance's lock or with it.
    void pump();
    /// For an event loop: readable when pump() has something to read.
    [[nodiscard]] int news() const { return control_; }
    [[nodiscard]] std::vector<LinkEvent> take_events();
    [[nodiscard]] const std::string &sandbox() const { return sandbox_; }
    [[nodiscard]] bool alive() const { return alive_.load(std::memory_order_relaxed); }
    [[nodiscard]] bool is_erased(std::uint32_t instance) const;
    [[nodiscard]] const std::shared_ptr<Crowd> &crowd() const { return crowd_; }
    [[nodiscard]] std::uint64_t rolled_back() const { return rolled_back_.load(std::memory_order_relaxed); }

    void report(LinkEvent event);

    [[nodiscard]] Status send(const ControlMessage &message, const int *fds, unsigned count);

    /// Snapshot: one question to the keeper and its answer, which takes as long as it takes, but not for ever. `file`'s
    /// bytes are replaced. With the machine stopped alone.
    [[nodiscard]] Status ask(ControlKind kind, std::uint32_t instance, std::vector<std::uint8_t> *file,
                             std::string &why);

private:
    EngineLink() = default;
    void take(const ControlMessage &message);
    void drain_signer();

    int control_ = -1;
    int signer_ = -1;
    int zygote_ = -1;
    std::string sandbox_;
    std::atomic<bool> alive_{true};
    std::array<std::atomic<bool>, kMaxInstances> erased_{};
    std::atomic<std::uint64_t> rolled_back_{0}; // store files found older than the newest

    const std::shared_ptr<Crowd> crowd_ = std::make_shared<Crowd>(cores_of_this_process());
    std::mutex control_mutex_; // reading control_, and events_
    std::vector<LinkEvent> events_;
    std::atomic<bool> news_{false}; // events_ is not empty
    std::optional<ControlMessage> done_;

    std::mutex ask_mutex_;
    std::uint32_t asked_ = 0;

    struct Slot {
        bool busy = false;
        std::uint32_t ticket = 0;
        std::optional<SignReply> reply;
    };
    std::mutex sign_mutex_;
    std::uint32_t next_ticket_ = 0;
    std::array<Slot, kSignSlots> slots_;
};

} // namespace banyan::vtpm
