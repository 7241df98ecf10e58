// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "vtpm/chip/fifo_state.hpp"
#include "vtpm/chip/locality.hpp"
#include "vtpm/chip/tis_regs.hpp"
#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {

/// What the owner of an interface must do after a write: one answer of respond() is owed for kDispatch, also if
/// kAbandon comes before it.
struct Wish {
    bool dispatch = false;          // execute command() at locality()
    bool cancel = false;            // TPM_STS.commandCancel: hurry, the response is wanted
    bool abandon = false;           // cancel; nobody reads the response
    bool reset_established = false; // clear tpmEstablishment, durably
};

/// The FIFO interface of one TPM: five localities, one command buffer.
///
/// Invariant: received_ <= kTpmBufferSize; in kCompletion read_at_ <= received_. Not thread safe: the owner locks.
/// Reads and writes are software's; locality 4 takes no writes from it (PTP 3.5). D-RTM comes by hardware_seize().
class TisInterface {
public:
    explicit TisInterface(std::uint32_t did_vid = 0) : did_vid_(did_vid) {}

    /// _TPM_Init: nothing of an earlier life is left.
    void power_on(bool established);

    /// Any width of 1, 2, 4 or 8 at any alignment inside one locality's page; every aligned word that it touches is
    /// read once. A FIFO gives as many bytes as are touched of it.
    [[nodiscard]] std::uint64_t read(std::uint32_t offset, unsigned width);
    [[nodiscard]] Wish write(std::uint32_t offset, unsigned width, std::uint64_t value);

    /// The response to a dispatched command. A response that is too long for the buffer is a bug of the caller.
    void respond(std::span<const std::uint8_t> response);

    /// HASH_START and HASH_END.
    [[nodiscard]] Wish hardware_seize();
    void hardware_release();
    void set_established(bool established) { established_ = established; }

    [[nodiscard]] std::span<const std::uint8_t> command() const { return {buffer_.data(), received_}; }
    [[nodiscard]] std::uint8_t locality() const { return localities_.active; }
    [[nodiscard]] tis::FifoState state() const { return fifo_; }
    [[nodiscard]] bool executing() const
    {
        return fifo_ == tis::FifoState::kExecution || fifo_ == tis::FifoState::kAborting ||
               fifo_ == tis::FifoState::kAbortingReady;
    }
    [[nodiscard]] bool established() const { return established_; }
    [[nodiscard]] const Localities &localities() const { return localities_; }

private:
    std::uint32_t read_word(std::uint8_t locality, const tis::RegSpec &spec, unsigned lanes, unsigned width);
    void write_word(std::uint8_t locality, const tis::RegSpec &spec, std::uint32_t value, unsigned first_lane,
                    unsigned lanes, Wish &wish);
    [[nodiscard]] std::uint32_t access_word(std::uint8_t locality) const;
    [[nodiscard]] std::uint32_t sts_word(unsigned width) const;
    void write_access(std::uint8_t locality, std::uint32_t value, Wish &wish);
    void write_sts(std::uint8_t locality, std::uint32_t value, Wish &wish);
    [[nodiscard]] bool expects_more() const;
    std::uint8_t pop();
    void push(std::uint8_t byte);
    void locality_event(LocalityEvent event, std::uint8_t locality, Wish &wish);
    void fifo_event(tis::FifoEvent event, Wish &wish);

    std::uint32_t did_vid_;
    Localities localities_;
    tis::FifoState fifo_ = tis::FifoState::kIdle;
    bool established_ = false;
    std::size_t received_ = 0; // bytes of the command, then of the response
    std::size_t read_at_ = 0;
    std::array<std::uint8_t, kTpmBufferSize> buffer_{};
};

} // namespace banyan::vtpm
