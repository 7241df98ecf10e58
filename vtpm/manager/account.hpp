// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

#include "vtpm/chip/locality.hpp"
#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {

/// What the host may know of a command that has ended: nothing of its parameters.
struct CommandRecord {
    std::uint8_t locality;
    std::uint32_t code;
    std::uint32_t command_size;
    std::uint32_t response_size; // 0: given up, nobody saw a response
    std::uint32_t result;
    std::uint64_t ns;
};

/// Where an instance's figures go. Called with the instance locked: must not call back.
class Observer {
public:
    virtual ~Observer() = default;
    virtual void command(const CommandRecord &record) = 0;
    virtual void locality(std::uint8_t from, std::uint8_t to) = 0;
    /// A clock for figures alone; no answer depends on it.
    [[nodiscard]] virtual std::int64_t host_ns() = 0;

protected:
    Observer() = default;
    Observer(const Observer &) = default;
    Observer &operator=(const Observer &) = default;
};

/// The book of one instance: commands and their time, and who holds the interface. Its owner locks.
class Account {
public:
    explicit Account(Observer *observer) : observer_(observer) {}

    void begin(std::uint8_t locality, std::span<const std::uint8_t> command)
    {
        ++commands_;
        open_ = CommandRecord{locality,
                              command.size() < kTpmHeaderSize ? 0 : load_be32(command, kTpmCodeAt),
                              static_cast<std::uint32_t>(command.size()),
                              0,
                              0,
                              0};
        began_ns_ = now();
    }
    /// The response that software can now read; empty: the command was given up. Without a begin() nothing happens.
    void end(std::span<const std::uint8_t> response)
    {
        if (!open_) {
            return;
        }
        CommandRecord record = *open_;
        open_.reset();
        record.response_size = static_cast<std::uint32_t>(response.size());
        record.result = response.size() < kTpmHeaderSize ? 0 : load_be32(response, kTpmCodeAt);
        record.ns = static_cast<std::uint64_t>(std::max<std::int64_t>(0, now() - began_ns_));
        total_ns_ += record.ns;
        longest_ns_ = std::max(longest_ns_, record.ns);
        if (observer_ != nullptr) {
            observer_->command(record);
        }
    }
    void locality(std::uint8_t active)
    {
        if (active != locality_ && observer_ != nullptr) {
            observer_->locality(locality_, active);
        }
        locality_ = active;
    }

    [[nodiscard]] std::uint64_t commands() const { return commands_; }
    [[nodiscard]] std::uint64_t total_ns() const { return total_ns_; }
    [[nodiscard]] std::uint64_t longest_ns() const { return longest_ns_; }

private:
    [[nodiscard]] std::int64_t now() { return observer_ == nullptr ? 0 : observer_->host_ns(); }

    Observer *observer_; // outlives this
    std::optional<CommandRecord> open_;
    std::int64_t began_ns_ = 0;
    std::uint8_t locality_ = kNoLocality;
    std::uint64_t commands_ = 0;
    std::uint64_t total_ns_ = 0;
    std::uint64_t longest_ns_ = 0;
};

} // namespace banyan::vtpm
