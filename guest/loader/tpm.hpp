// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>

#include "guest/loader/event_log.hpp"
#include "guest/loader/hash/digest.hpp"
#include "guest/loader/transport.hpp"

// The TPM commands the loader knows: which PCR banks there are, and extending. TPM 2.0 Library, part 3.

namespace banyan::loader {

/// Commands and answers are short; the largest is TPM2_PCR_Extend with every digest.
inline constexpr std::size_t kTpmBuffer = 512;

/// A command under construction.
class TpmCommand {
public:
    TpmCommand(std::uint16_t tag, std::uint32_t code);

    void put16(std::uint16_t value);
    void put32(std::uint32_t value);
    void put(Bytes bytes);

    /// The finished command, its size filled in.
    Bytes bytes();

private:
    std::array<std::uint8_t, kTpmBuffer> buffer_{};
    std::size_t used_ = 0;
};

TpmCommand pcr_extend_command(std::uint32_t pcr, const Digests &digests);

/// Extends the digest "one" (01 00 ...) into a bank whose hash the loader does not compute.
TpmCommand pcr_cap_command(std::uint32_t pcr, Alg bank, std::size_t digest_size);

TpmCommand get_banks_command();

/// The banks of PCR 17 that are active, beyond the three that are extended with digests.
struct OtherBanks {
    static constexpr std::size_t kMax = 8;
    std::array<Alg, kMax> banks{};
    std::size_t count = 0;
};

/// False when the answer is not one, or has more active banks than can be kept.
[[nodiscard]] bool parse_banks(Bytes response, OtherBanks &other);

/// Bytes of a digest; 0 for an algorithm that the loader does not know.
std::size_t digest_size(Alg alg);

struct TpmFault {
    TransportFault transport = TransportFault::kNone;
    std::uint32_t code = 0; // of the response: TPM_RC
    bool malformed = false; // an answer that is none
    std::uint16_t bank = 0; // active, and of an unknown size

    explicit operator bool() const { return transport != TransportFault::kNone || code != 0 || malformed || bank != 0; }
};

/// The TPM as the loader uses it. After a fault nothing may be booted: a PCR may lack a measurement.
template <typename Transport>
class Tpm {
public:
    explicit Tpm(Transport &transport) : transport_(transport) {}

    /// Learns the active banks. Those the loader cannot hash for are capped in `pcrs` at once: whatever is measured
    /// from then on, they do not look like a launch without it.
    [[nodiscard]] TpmFault prepare(std::span<const std::uint32_t> pcrs)
    {
        TpmCommand ask = get_banks_command();
        Bytes answer;
        if (const TpmFault fault = run(ask, answer)) {
            return fault;
        }
        OtherBanks other;
        if (!parse_banks(answer, other)) {
            return {.malformed = true};
        }
        for (std::size_t i = 0; i < other.count; ++i) {
            const Alg bank = other.banks[i];
            if (digest_size(bank) == 0) {
                return {.bank = static_cast<std::uint16_t>(bank)};
            }
            for (const std::uint32_t pcr : pcrs) {
                TpmCommand cap = pcr_cap_command(pcr, bank, digest_size(bank));
                if (const TpmFault fault = run(cap, answer)) {
                    return fault;
                }
            }
        }
        return {};
    }

    [[nodiscard]] TpmFault extend(std::uint32_t pcr, const Digests &digests)
    {
        TpmCommand command = pcr_extend_command(pcr, digests);
        Bytes answer;
        return run(command, answer);
    }

private:
    TpmFault run(TpmCommand &command, Bytes &answer)
    {
        std::size_t size = 0;
        if (const TransportFault fault = transport_.transmit(command.bytes(), response_, size);
            fault != TransportFault::kNone) {
            return {.transport = fault};
        }
        answer = Bytes(response_).first(size);
        const std::uint32_t code =
            std::uint32_t{answer[6]} << 24 | std::uint32_t{answer[7]} << 16 | std::uint32_t{answer[8]} << 8 | answer[9];
        return {.code = code};
    }

    Transport &transport_;
    std::array<std::uint8_t, kTpmBuffer> response_{};
};

} // namespace banyan::loader
