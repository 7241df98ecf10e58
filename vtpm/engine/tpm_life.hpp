// SPDX-License-Identifier: GPL-2.0-or-later
// libtpms, which is one TPM in global variables of the process, behind functions that know its traps.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "banyan/base/result.hpp"

namespace banyan::vtpm {

using Bytes = std::vector<std::uint8_t>;

/// The TPM of this process. At most one life at a time: begin(), commands, end().
class TpmLife {
public:
    TpmLife();
    ~TpmLife();
    TpmLife(const TpmLife &) = delete;
    TpmLife &operator=(const TpmLife &) = delete;

    /// Of commands and responses, for every life that follows.
    [[nodiscard]] static bool set_buffer_size(std::uint32_t size);

    /// _TPM_Init. Empty permanent: a new TPM is manufactured. With a volatile state the TPM is where it was when that
    /// was taken; the two must be of one moment.
    [[nodiscard]] Status begin(std::span<const std::uint8_t> permanent, std::span<const std::uint8_t> volatile_state);
    void end();

    /// Never empty: in failure mode libtpms may answer with nothing, which becomes TPM_RC_FAILURE.
    [[nodiscard]] Bytes execute(std::uint8_t locality, std::span<const std::uint8_t> command);
    [[nodiscard]] bool startup_clear();
    [[nodiscard]] bool shutdown_clear();
    /// Fresh entropy from the kernel: a state that is restored twice would go on with the same random numbers.
    /// The response code; kSuccess when it was done.
    [[nodiscard]] std::uint32_t stir();

    [[nodiscard]] bool hash_start();
    [[nodiscard]] bool hash_data(std::span<const std::uint8_t> data);
    [[nodiscard]] bool hash_end();

    /// The permanent state as libtpms last stored it, and whether that is news since the last call of clean().
    [[nodiscard]] const Bytes &permanent() const;
    [[nodiscard]] bool dirty() const;
    void clean();
    void touch(); // the permanent state is news: it is not the one that is durable
    [[nodiscard]] Result<Bytes> volatile_state() const;

    /// What libtpms says of itself, JSON.
    [[nodiscard]] static std::string information(bool specification, bool attributes);

    /// Safe in a signal handler.
    static void cancel();

private:
    bool alive_ = false;
};

/// TPM2 command without parameters checked: tag NO_SESSIONS, size, code, body.
[[nodiscard]] Bytes plain_command(std::uint32_t code, std::span<const std::uint8_t> body);
[[nodiscard]] std::uint32_t response_code(std::span<const std::uint8_t> response);

} // namespace banyan::vtpm
