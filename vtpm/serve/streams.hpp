// SPDX-License-Identifier: GPL-2.0-or-later
// The four kinds of socket that an instance has.
#pragma once

#include <cstdint>

#include "vtpm/serve/mssim_protocol.hpp"
#include "vtpm/serve/request.hpp"

namespace banyan::vtpm {

/// swtpm's control channel.
class ControlStream final : public ClientStream {
public:
    [[nodiscard]] Taken take(std::span<const std::uint8_t> bytes) override;
    [[nodiscard]] Encoded encode(const Reply &reply) override;

private:
    [[nodiscard]] Taken take_part(std::span<const std::uint8_t> bytes);

    const swtpm::CodeSpec *spec_ = nullptr; // of the request under way; null: unknown
    Request head_;                          // without data
    std::uint64_t remaining_ = 0;           // bytes of data that are still to come
    bool in_data_ = false;
    bool last_ = true;
    bool after_locality_ = false;                   // padding may come before the next request
    swtpm::Result worst_ = swtpm::Result::kSuccess; // the first part that was refused
};

/// swtpm's data channel: TPM commands and responses, nothing else.
class CommandStream final : public ClientStream {
public:
    [[nodiscard]] Taken take(std::span<const std::uint8_t> bytes) override;
    [[nodiscard]] Encoded encode(const Reply &reply) override;

private:
    bool unusable_ = false; // its size cannot be: where the next command begins is not known
};

/// The simulator's command port.
class MssimCommandStream final : public ClientStream {
public:
    [[nodiscard]] Taken take(std::span<const std::uint8_t> bytes) override;
    [[nodiscard]] Encoded encode(const Reply &reply) override;
};

/// The simulator's platform port.
class MssimPlatformStream final : public ClientStream {
public:
    [[nodiscard]] Taken take(std::span<const std::uint8_t> bytes) override;
    [[nodiscard]] Encoded encode(const Reply &reply) override;

private:
    bool unusable_ = false;
};

} // namespace banyan::vtpm
