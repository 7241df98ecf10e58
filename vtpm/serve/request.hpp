// SPDX-License-Identifier: GPL-2.0-or-later
// What a client asks of a served instance and what it is told, whichever protocol it speaks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vtpm/serve/swtpm_protocol.hpp"

namespace banyan::vtpm {

using ServeBytes = std::vector<std::uint8_t>;

enum class Verb : std::uint8_t {
    // answered at any time
    kUnknown,
    kGetCapability,
    kGetConfig,
    kGetInfo,
    kLockStorage,
    kSetDataFd,
    kSetBufferSize,
    kSetLocality,
    kCancel,
    // power
    kInit,
    kPowerOn, // an init of what is off, else nothing
    kStop,
    kShutdown,
    // to a TPM that is on
    kCommand,
    kGetEstablished,
    kResetEstablished,
    kHashStart,
    kHashData,
    kHashEnd,
    kStoreVolatile,
    kGetState,
    // to one that is off
    kSetState,
};

struct Request {
    Verb verb = Verb::kUnknown;
    std::uint64_t number = 0;             // flags, or a size
    std::uint32_t type = 0;               // of a state blob
    std::uint32_t offset = 0;             // in a state blob, or in the text of kGetInfo
    std::optional<std::uint8_t> locality; // of this command; none: as kSetLocality said last
    ServeBytes data;
    bool first = true; // data of one request may come in parts
    bool last = true;
};

struct Reply {
    swtpm::Result result = swtpm::Result::kSuccess;
    std::uint64_t capabilities = 0;
    bool established = false;
    std::uint32_t buffer_size = 0;
    std::uint32_t total = 0; // of what data is a part
    ServeBytes data;
};

/// One client's bytes in, requests out; replies in, bytes out. Pure. Whoever reads the socket keeps the bytes that were
/// not consumed, at most kInputMax of them, and asks for the next request when the last has been replied to.
class ClientStream {
public:
    static constexpr std::size_t kInputMax = 8192; // the largest request, or part of one, fits

    struct Taken {
        std::size_t consumed = 0;
        std::optional<Request> request;
        bool broken = false; // there is no way on in this stream
    };
    struct Encoded {
        ServeBytes bytes;
        bool close = false; // after these
    };

    virtual ~ClientStream() = default;
    ClientStream(const ClientStream &) = delete;
    ClientStream &operator=(const ClientStream &) = delete;

    /// Nothing consumed, no request: more bytes are needed.
    [[nodiscard]] virtual Taken take(std::span<const std::uint8_t> bytes) = 0;
    /// Of the request that take() gave last.
    [[nodiscard]] virtual Encoded encode(const Reply &reply) = 0;

protected:
    ClientStream() = default;
};

inline void append_be32(ServeBytes &to, std::uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8) {
        to.push_back(static_cast<std::uint8_t>(value >> shift));
    }
}

} // namespace banyan::vtpm
