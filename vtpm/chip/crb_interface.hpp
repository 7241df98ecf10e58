// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "vtpm/chip/crb_regs.hpp"
#include "vtpm/chip/crb_state.hpp"
#include "vtpm/chip/interface.hpp"

namespace banyan::vtpm {

/// The Command Response Buffer of one TPM: five localities, one buffer behind all five pages.
///
/// Software's writes reach the buffer in Ready, Reception and Completion alone, so the command of a Start is what was
/// there at the Start. Invariant: outside Reception, Execution and Completion the buffer is zero.
class CrbInterface final : public Interface {
public:
    /// window: physical address of the window, for the address registers.
    explicit CrbInterface(std::uint32_t did_vid = 0, bool interrupts = false, std::uint64_t window = crb::kWindowBase)
        : Interface(interrupts),
          did_vid_(did_vid),
          window_(window)
    {}

    void respond(std::span<const std::uint8_t> response) override;
    [[nodiscard]] std::span<const std::uint8_t> command() const override;
    [[nodiscard]] std::size_t buffer_size() const override { return buffer_.size(); }
    [[nodiscard]] bool executing() const override
    {
        return crb_ == crb::CrbState::kExecution || crb_ == crb::CrbState::kAborting ||
               crb_ == crb::CrbState::kAbortingReady;
    }
    [[nodiscard]] crb::CrbState state() const { return crb_; }

private:
    [[nodiscard]] std::uint32_t read_lanes(std::uint8_t locality, std::uint32_t at, unsigned first, unsigned lanes,
                                           unsigned width) override;
    void write_lanes(std::uint8_t locality, std::uint32_t at, unsigned first, unsigned lanes, std::uint32_t value,
                     Wish &wish) override;
    void power_cycled() override;
    void released(Wish &wish) override { crb_event(crb::CrbEvent::kRelease, wish); }
    void granted(std::uint8_t locality) override { interrupts_.occur(locality, crb::IntEnable::LocalityChange::kMask); }
    void establishment_cleared() override { interrupts_.occur_everywhere(crb::IntEnable::EstablishmentClear::kMask); }

    void save_protocol(StateWriter &out) const override;
    [[nodiscard]] bool load_protocol(StateReader &in) override;
    [[nodiscard]] std::uint32_t interrupt_bits() const override;

    [[nodiscard]] std::uint32_t read_word(std::uint8_t locality, const crb::RegSpec &spec, std::uint32_t at) const;
    [[nodiscard]] std::uint32_t buffer_word(std::uint32_t at) const;
    void write_loc_ctrl(std::uint8_t locality, std::uint32_t bits, Wish &wish);
    void write_ctrl_req(std::uint32_t bits, Wish &wish);
    void write_buffer(std::uint32_t at, unsigned lanes, std::uint32_t value);
    [[nodiscard]] std::uint64_t buffer_address(std::uint8_t locality) const
    {
        return window_ + std::uint64_t{locality} * kPageSize + crb::kDataBufferAt;
    }
    void crb_event(crb::CrbEvent event, Wish &wish);

    std::uint32_t did_vid_;
    std::uint64_t window_;
    crb::CrbState crb_ = crb::CrbState::kIdle;
    bool cancel_ = false; // TPM_CRB_CTRL_CANCEL as software left it
    std::array<std::uint8_t, crb::kDataBufferSize> buffer_{};
};

} // namespace banyan::vtpm
