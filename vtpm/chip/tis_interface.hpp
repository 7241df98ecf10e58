// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "vtpm/chip/fifo_state.hpp"
#include "vtpm/chip/interface.hpp"
#include "vtpm/chip/tis_regs.hpp"
#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {

/// The FIFO interface of one TPM: five localities, one command buffer.
///
/// Invariant: received_ <= kTpmBufferSize; in kCompletion read_at_ <= received_. A FIFO gives and takes as many bytes as
/// are touched of it.
class TisInterface final : public Interface {
public:
    explicit TisInterface(std::uint32_t did_vid = 0, bool interrupts = false) : Interface(interrupts), did_vid_(did_vid)
    {}

    void respond(std::span<const std::uint8_t> response) override;
    [[nodiscard]] std::span<const std::uint8_t> command() const override { return {buffer_.data(), received_}; }
    [[nodiscard]] std::size_t buffer_size() const override { return buffer_.size(); }
    [[nodiscard]] bool executing() const override
    {
        return fifo_ == tis::FifoState::kExecution || fifo_ == tis::FifoState::kAborting ||
               fifo_ == tis::FifoState::kAbortingReady;
    }
    [[nodiscard]] tis::FifoState state() const { return fifo_; }

private:
    [[nodiscard]] std::uint32_t read_lanes(std::uint8_t locality, std::uint32_t at, unsigned first, unsigned lanes,
                                           unsigned width) override;
    void write_lanes(std::uint8_t locality, std::uint32_t at, unsigned first, unsigned lanes, std::uint32_t value,
                     Wish &wish) override;
    void power_cycled() override;
    void released(Wish &wish) override { fifo_event(tis::FifoEvent::kRelease, wish); }
    void granted(std::uint8_t locality) override { interrupts_.occur(locality, tis::IntEnable::LocalityChange::kMask); }
    void establishment_cleared() override {} // has no interrupt in this interface

    void save_protocol(StateWriter &out) const override;
    [[nodiscard]] bool load_protocol(StateReader &in) override;
    [[nodiscard]] std::uint32_t interrupt_bits() const override;

    [[nodiscard]] std::uint32_t read_word(std::uint8_t locality, const tis::RegSpec &spec, unsigned width) const;
    [[nodiscard]] std::uint32_t access_word(std::uint8_t locality) const;
    [[nodiscard]] std::uint32_t sts_word(unsigned width) const;
    void write_access(std::uint8_t locality, std::uint32_t value, Wish &wish);
    void write_sts(std::uint8_t locality, std::uint32_t value, Wish &wish);
    [[nodiscard]] bool expects_more() const;
    std::uint8_t pop();
    void push(std::uint8_t byte);
    void fifo_event(tis::FifoEvent event, Wish &wish);

    std::uint32_t did_vid_;
    std::uint32_t vector_ = 0; // TPM_INT_VECTOR, kept for software's sake: the machine's wire is what it is
    tis::FifoState fifo_ = tis::FifoState::kIdle;
    std::size_t received_ = 0; // bytes of the command, then of the response
    std::size_t read_at_ = 0;
    std::array<std::uint8_t, kTpmBufferSize> buffer_{};
};

} // namespace banyan::vtpm
