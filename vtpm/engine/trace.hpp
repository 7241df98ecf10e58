// SPDX-License-Identifier: GPL-2.0-or-later
// What a command that succeeded leaves behind in the TPM, as far as it matters for coming back after a crash.
#pragma once

#include <cstdint>
#include <span>

#include "vtpm/engine/tpm_life.hpp"

namespace banyan::vtpm {

enum class Trace : std::uint8_t {
    kNone,   // nothing
    kReplay, // what the same bytes at the same locality leave again
    kOther,
};

/// Of a command with a good header that succeeded, changed no permanent state, and is not audited. Sessions that roll
/// nonces always leave something; a password does not.
[[nodiscard]] Trace trace_of(std::span<const std::uint8_t> command);

/// Whether the TPM audits commands: then even a reader leaves a trace.
[[nodiscard]] bool audits_commands(TpmLife &life);
inline constexpr std::uint32_t kCcSetCommandCodeAuditStatus = 0x0140;

} // namespace banyan::vtpm
