// SPDX-License-Identifier: GPL-2.0-or-later
// What an instance needs of an engine. engine_link.hpp is the live one; tests bring their own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "banyan/base/result.hpp"
#include "vtpm/link/control.hpp"
#include "vtpm/link/mailbox.hpp"
#include "vtpm/link/tpm_setup.hpp"

namespace banyan::vtpm {

struct Answer {
    enum class Kind : std::uint8_t {
        kOk,
        kRefused,
        kStoreFailed,
        kHostile, // the worker broke the protocol; the caller stops it
    };
    Kind kind;
    std::size_t size; // bytes of a response, header checked
};

enum class Health : std::uint8_t {
    kOff,
    kBooting,
    kReady,
    kDead,    // another one may do better
    kRefused, // it was never ready, and the engine said why: its state, its disk, its sandbox. So would the next one
};

/// A worker that has died so often in one power cycle is started again, no oftener.
inline constexpr unsigned kDeathsMax = 16;

/// Waits for one life of a worker, without the instance's lock: outlives a power cycle.
class Waiter {
public:
    virtual ~Waiter() = default;
    /// Until the worker answered, changed its state or died, at most bound_ns of host time. soon: most likely within
    /// a millisecond.
    virtual void wait(std::uint64_t bound_ns, bool soon) = 0;
    /// For an event loop: readable after an answer or a change of state (eight bytes to be read empty), and hung up
    /// when the worker has died. -1: none.
    [[nodiscard]] virtual int bell() { return -1; }
    [[nodiscard]] virtual int line() const { return -1; }

protected:
    Waiter() = default;
    Waiter(const Waiter &) = default;
    Waiter &operator=(const Waiter &) = default;
};

/// One instance's way to its worker. The owner's lock is held around every call; none of them waits, but for the three
/// of snapshots, which are called with the machine stopped.
class InstanceLink {
public:
    virtual ~InstanceLink() = default;

    /// For the starts that follow.
    virtual void set_up(const TpmSetup &setup) = 0;
    /// A new life, from the durable state or from the last checkpoint. Requests may be posted at once.
    [[nodiscard]] virtual Status start(bool restore) = 0;
    virtual void stop() = 0;
    [[nodiscard]] virtual Status erase() = 0;
    [[nodiscard]] virtual bool erased() = 0;

    [[nodiscard]] virtual Health health() = 0;
    /// Of a worker that is gone, ready or not: it ended itself and said why, and so would the next one that is asked for
    /// the same.
    [[nodiscard]] virtual bool gave_up() { return false; }
    [[nodiscard]] virtual bool established() = 0; // as the worker said when it became ready

    /// One request at a time.
    [[nodiscard]] virtual Status post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes) = 0;
    /// The answer, once. A response's bytes are in `into`, which has room for kTpmBufferSize.
    [[nodiscard]] virtual std::optional<Answer> collect(std::span<std::uint8_t> into) = 0;
    virtual void cancel() = 0;

    [[nodiscard]] virtual std::shared_ptr<Waiter> waiter() = 0;

    /// One descriptor for all lives, for an event loop: readable from the end of what is pending, or of the worker, if
    /// ring_when_done() was called meanwhile, until hush(). -1: none. Costs nothing before it is asked for.
    [[nodiscard]] virtual int bell() { return -1; }
    virtual void ring_when_done() {}
    virtual void hush() {}

    /// Something a user should learn of this instance.
    virtual void report(const char * /*event*/, const char * /*text*/) {}

    [[nodiscard]] virtual std::uint32_t restores() { return 0; }
    /// The TPM's state and the interface's, sealed. Nothing runs in the engine for this instance.
    [[nodiscard]] virtual Result<std::vector<std::uint8_t>>
    seal(const SealOrder & /*order*/, std::span<const std::uint8_t> /*interface*/, std::string & /*why*/)
    {
        return fail(Errc::kUnsupported);
    }
    /// The interface's state in a sealed part; the TPM's waits in the engine.
    [[nodiscard]] virtual Result<std::vector<std::uint8_t>> open(std::span<const std::uint8_t> /*part*/,
                                                                 std::string & /*why*/)
    {
        return fail(Errc::kUnsupported);
    }
    /// What was opened becomes the TPM's state, durably; the worker is gone. start(true) goes on with it.
    [[nodiscard]] virtual Status install(std::string & /*why*/) { return fail(Errc::kUnsupported); }

protected:
    InstanceLink() = default;
    InstanceLink(const InstanceLink &) = default;
    InstanceLink &operator=(const InstanceLink &) = default;
};

} // namespace banyan::vtpm
