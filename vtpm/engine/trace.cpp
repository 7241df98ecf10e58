// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/trace.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {
namespace {

// TPM_CC. TPM 2.0 library, part 2, table 12
constexpr std::uint32_t kCcQuote = 0x0158;
constexpr std::uint32_t kCcGetCapability = 0x017a;
constexpr std::uint32_t kCcPcrExtend = 0x0182;
constexpr std::array<std::uint32_t, 10> kReaders{
    0x0169, // TPM2_NV_ReadPublic
    0x0173, // TPM2_ReadPublic
    0x017a, // TPM2_GetCapability
    0x017b, // TPM2_GetRandom: its generator is stirred after each restore
    0x017c, // TPM2_GetTestResult
    0x017d, // TPM2_Hash
    0x017e, // TPM2_PCR_Read
    0x0181, // TPM2_ReadClock
    0x018a, // TPM2_TestParms
    0x0146, // TPM2_StirRandom
};
constexpr std::uint32_t kCapAuditCommands = 4; // TPM_CAP, table 23
constexpr std::uint32_t kRsPassword = 0x40000009;
constexpr std::uint16_t kAlgEcdaa = 0x001a;

/// Bytes of a command with one handle, from its parameters on; empty if it has another session than a password.
std::span<const std::uint8_t> behind_one_password(std::span<const std::uint8_t> command)
{
    constexpr std::size_t kAreaAt = kTpmHeaderSize + 4 + 4; // handle, authorizationSize
    constexpr std::size_t kBare = 4 + 2 + 1 + 2;            // session, nonce, attributes, authorization
    if (load_be16(command, 0) != kTpmStSessions || command.size() < kAreaAt + kBare ||
        load_be32(command, kAreaAt) != kRsPassword || load_be16(command, kAreaAt + 4) != 0) {
        return {};
    }
    const std::size_t area = load_be32(command, kAreaAt - 4);
    const std::size_t password = load_be16(command, kAreaAt + 7);
    if (area != kBare + password || area > command.size() - kAreaAt) {
        return {};
    }
    return command.subspan(kAreaAt + area);
}

/// TPM2_Quote uses a commitment up when it signs with ECDAA.
bool quotes_plainly(std::span<const std::uint8_t> parameters)
{
    if (parameters.size() < 2) {
        return false;
    }
    const std::size_t scheme = 2 + std::size_t{load_be16(parameters, 0)}; // behind qualifyingData
    return parameters.size() >= scheme + 2 && load_be16(parameters, scheme) != kAlgEcdaa;
}

} // namespace

Trace trace_of(std::span<const std::uint8_t> command)
{
    const std::uint32_t code = load_be32(command, kTpmCodeAt);
    if (load_be16(command, 0) == kTpmStNoSessions) {
        return std::find(kReaders.begin(), kReaders.end(), code) != kReaders.end() ? Trace::kNone : Trace::kOther;
    }
    const auto parameters = behind_one_password(command);
    if (code == kCcPcrExtend && !parameters.empty()) {
        return Trace::kReplay;
    }
    if (code == kCcQuote && quotes_plainly(parameters)) {
        return Trace::kNone;
    }
    return Trace::kOther;
}

bool audits_commands(TpmLife &life)
{
    std::array<std::uint8_t, 12> body{0, 0, 0, kCapAuditCommands, 0, 0, 0, 0, 0, 0, 0, 2};
    const Bytes response = life.execute(0, plain_command(kCcGetCapability, body));
    constexpr std::size_t kCountAt = kTpmHeaderSize + 1 + 4; // moreData, capability
    // TPM2_SetCommandCodeAuditStatus is in the list from the start, and leaves a trace anyway.
    return response_code(response) != 0 || response.size() < kCountAt + 4 || load_be32(response, kCountAt) > 1;
}

} // namespace banyan::vtpm
