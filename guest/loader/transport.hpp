// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>

// What the drivers of a TPM's interfaces, tis.hpp and crb.hpp, have in common.

namespace banyan::loader {

inline constexpr std::size_t kTpmHeader = 10; // of a command or response: tag, size, code

/// The size that a header claims. TPM 2.0 Library, part 1, 18.
inline std::size_t claimed_size(const std::uint8_t *header)
{
    return static_cast<std::size_t>(header[2]) << 24 | static_cast<std::size_t>(header[3]) << 16 |
           static_cast<std::size_t>(header[4]) << 8 | header[5];
}

enum class TransportFault : std::uint8_t {
    kNone,
    kAbsent,     // the registers read as ones: no TPM, or not for us
    kNotValid,   // the TPM did not finish its start
    kUnknown,    // neither FIFO nor CRB
    kNoGrant,    // the locality was not granted, seizing included
    kNotReady,   // commandReady, or cmdReady, did not come
    kNoBurst,    // the FIFO took or gave no byte any more
    kTooEarly,   // the TPM wanted fewer bytes than the command has
    kTooLate,    // the TPM wanted more
    kElsewhere,  // the CRB's buffer is not in this locality's page
    kNoRoom,     // the CRB's buffer is too small for the command
    kNoAnswer,   // no response within the bound
    kBadAnswer,  // a response with an impossible size
    kFatalError, // the TPM says that it has one
};

inline const char *describe(TransportFault fault)
{
    switch (fault) {
    case TransportFault::kNone:
        return "no fault";
    case TransportFault::kAbsent:
        return "there is none";
    case TransportFault::kNotValid:
        return "it did not start";
    case TransportFault::kUnknown:
        return "its interface is neither FIFO nor CRB";
    case TransportFault::kNoGrant:
        return "locality 2 was not granted";
    case TransportFault::kNotReady:
        return "it did not become ready";
    case TransportFault::kNoBurst:
        return "its FIFO stopped";
    case TransportFault::kTooEarly:
        return "it took the command to be shorter";
    case TransportFault::kTooLate:
        return "it took the command to be longer";
    case TransportFault::kElsewhere:
        return "its buffer is not in locality 2's page";
    case TransportFault::kNoRoom:
        return "its buffer is too small";
    case TransportFault::kNoAnswer:
        return "it did not answer";
    case TransportFault::kBadAnswer:
        return "its answer has an impossible size";
    case TransportFault::kFatalError:
        return "it reports a fatal error";
    }
    return "unknown";
}

} // namespace banyan::loader
