// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/chip/crb_interface.hpp"

#include <algorithm>

#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {

using namespace crb;

void CrbInterface::power_cycled()
{
    crb_ = CrbState::kIdle;
    cancel_ = false;
    buffer_.fill(0);
}

std::uint32_t CrbInterface::read_lanes(std::uint8_t locality, std::uint32_t at, unsigned first, unsigned /*lanes*/,
                                       unsigned /*width*/)
{
    const RegSpec *spec = find_reg(at);
    if (spec == nullptr || (spec->active_only && localities_.active != locality)) {
        return 0xffff'ffff;
    }
    return read_word(locality, *spec, at) >> (first * 8);
}

std::uint32_t CrbInterface::read_word(std::uint8_t locality, const RegSpec &spec, std::uint32_t at) const
{
    switch (spec.reg) {
    case Reg::kLocState: {
        Word word = LocState::TpmRegValidSts::kMask;
        word = LocState::TpmEstablished::with(word, !established_); // inverted, as TPM_ACCESS has it
        if (localities_.active != kNoLocality) {
            word = LocState::LocAssigned::with(word, true);
            word = LocState::ActiveLocality::with(word, localities_.active);
        }
        return word;
    }
    case Reg::kLocSts:
        return LocSts::BeenSeized::with(LocSts::Granted::with(0, localities_.active == locality),
                                        localities_.been_seized(locality));
    case Reg::kIntfIdHigh:
        return did_vid_ != 0 ? did_vid_ : spec.reset;
    case Reg::kCtrlReq:
        return CtrlReq::CmdReady::with(0, crb_ == CrbState::kAbortingReady);
    case Reg::kCtrlSts:
        return CtrlSts::TpmIdle::with(0, crb_ == CrbState::kIdle || crb_ == CrbState::kAborting ||
                                             crb_ == CrbState::kAbortingReady);
    case Reg::kCtrlCancel:
        return CtrlCancel::Cancel::with(0, cancel_);
    case Reg::kCtrlStart:
        return CtrlStart::Start::with(0, crb_ == CrbState::kExecution);
    case Reg::kIntEnable:
        return interrupts_.enabled(locality);
    case Reg::kIntSts:
        return interrupts_.status(locality);
    case Reg::kCtrlCmdLaddr:
    case Reg::kCtrlRspAddr:
        return static_cast<Word>(buffer_address(locality));
    case Reg::kCtrlCmdHaddr:
    case Reg::kCtrlRspAddrHigh:
        return static_cast<Word>(buffer_address(locality) >> 32);
    case Reg::kDataBuffer:
        return buffer_word(at - kDataBufferAt);
    case Reg::kLocCtrl:
    case Reg::kIntfId:
    case Reg::kCtrlCmdSize:
    case Reg::kCtrlRspSize:
        return spec.reset;
    }
    return 0xffff'ffff;
}

std::uint32_t CrbInterface::buffer_word(std::uint32_t at) const
{
    if (crb_ != CrbState::kReady && crb_ != CrbState::kReception && crb_ != CrbState::kCompletion) {
        return 0xffff'ffff;
    }
    std::uint32_t word = 0;
    for (unsigned i = 0; i < 4; ++i) {
        word |= static_cast<std::uint32_t>(buffer_[at + i]) << (i * 8);
    }
    return word;
}

void CrbInterface::write_lanes(std::uint8_t locality, std::uint32_t at, unsigned first, unsigned lanes,
                               std::uint32_t value, Wish &wish)
{
    const RegSpec *spec = find_reg(at);
    if (spec == nullptr || (spec->active_only && localities_.active != locality)) {
        return;
    }
    const Word bits = (value << (first * 8)) & spec->guest_writable;
    switch (spec->reg) {
    case Reg::kLocCtrl:
        write_loc_ctrl(locality, bits, wish);
        break;
    case Reg::kCtrlReq:
        write_ctrl_req(bits, wish);
        break;
    case Reg::kCtrlCancel:
        if (first == 0) {
            cancel_ = CtrlCancel::Cancel::get(bits);
            if (cancel_) {
                crb_event(CrbEvent::kCancel, wish);
            }
        }
        break;
    case Reg::kCtrlStart:
        if (CtrlStart::Start::get(bits)) {
            crb_event(CrbEvent::kStart, wish);
        }
        break;
    case Reg::kIntEnable:
        write_int_enable(locality, spec->guest_writable, first, lanes, value);
        break;
    case Reg::kIntSts:
        interrupts_.acknowledge(locality, bits);
        break;
    case Reg::kDataBuffer:
        write_buffer(at - kDataBufferAt + first, lanes, value);
        break;
    case Reg::kLocState:
    case Reg::kLocSts:
    case Reg::kIntfId:
    case Reg::kIntfIdHigh:
    case Reg::kCtrlSts:
    case Reg::kCtrlCmdSize:
    case Reg::kCtrlCmdLaddr:
    case Reg::kCtrlCmdHaddr:
    case Reg::kCtrlRspSize:
    case Reg::kCtrlRspAddr:
    case Reg::kCtrlRspAddrHigh:
        break;
    }
}

void CrbInterface::write_loc_ctrl(std::uint8_t locality, std::uint32_t bits, Wish &wish)
{
    // PTP 6.5.3.2: localities 3 and 4; no command under way, as for the FIFO
    if (LocCtrl::ResetEstablishmentBit::get(bits) && locality >= 3 && localities_.active == locality &&
        (crb_ == CrbState::kIdle || crb_ == CrbState::kReady)) {
        wish.reset_established = true;
    }
    // PTP leaves several bits in one write to us: in this order.
    if (LocCtrl::Relinquish::get(bits)) {
        locality_event(LocalityEvent::kRelinquish, locality, wish);
    }
    if (LocCtrl::Seize::get(bits)) {
        locality_event(LocalityEvent::kSeize, locality, wish);
    }
    if (LocCtrl::RequestAccess::get(bits)) { // there is no bit to clear beenSeized: who asks again knows
        locality_event(LocalityEvent::kClearSeized, locality, wish);
        locality_event(LocalityEvent::kRequest, locality, wish);
    }
}

void CrbInterface::write_ctrl_req(std::uint32_t bits, Wish &wish)
{
    if (bits == CtrlReq::CmdReady::kMask) {
        crb_event(CrbEvent::kCmdReady, wish);
        if (crb_ == CrbState::kReady) {
            interrupts_.occur(localities_.active, IntEnable::CmdReady::kMask);
        }
    } else if (bits == CtrlReq::GoIdle::kMask) {
        crb_event(CrbEvent::kGoIdle, wish);
    }
}

void CrbInterface::write_buffer(std::uint32_t at, unsigned lanes, std::uint32_t value)
{
    const CrbAction action = step(crb_, CrbEvent::kBufferWrite).action;
    if (action != CrbAction::kStore && action != CrbAction::kClearAndStore) {
        return;
    }
    Wish nothing;
    crb_event(CrbEvent::kBufferWrite, nothing);
    for (unsigned i = 0; i < lanes; ++i) {
        buffer_[at + i] = static_cast<std::uint8_t>(value >> (i * 8));
    }
}

std::span<const std::uint8_t> CrbInterface::command() const
{
    // As many bytes as its header says; a header that says more than there is room for is refused by its reader.
    const std::size_t size = load_be32(buffer_, kTpmSizeAt);
    return std::span(buffer_).first(std::min(size, buffer_.size()));
}

void CrbInterface::respond(std::span<const std::uint8_t> response)
{
    Wish nothing;
    const bool was_asked_ready = crb_ == CrbState::kAbortingReady;
    if (step(crb_, CrbEvent::kResponse).action == CrbAction::kPublish) {
        const std::size_t size = std::min(response.size(), buffer_.size());
        std::copy_n(response.begin(), size, buffer_.begin());
        std::fill(buffer_.begin() + static_cast<std::ptrdiff_t>(size), buffer_.end(), std::uint8_t{0});
        interrupts_.occur(localities_.active, IntEnable::Start::kMask);
    }
    crb_event(CrbEvent::kResponse, nothing);
    if (was_asked_ready && crb_ == CrbState::kReady) {
        interrupts_.occur(localities_.active, IntEnable::CmdReady::kMask);
    }
}

void CrbInterface::crb_event(CrbEvent event, Wish &wish)
{
    const CrbStep result = step(crb_, event);
    crb_ = result.next;
    switch (result.action) {
    case CrbAction::kIgnore:
    case CrbAction::kStore:
    case CrbAction::kPublish:
        break;
    case CrbAction::kClear:
    case CrbAction::kClearAndStore:
        buffer_.fill(0);
        break;
    case CrbAction::kDispatch:
        wish.dispatch = true;
        break;
    case CrbAction::kCancel:
        wish.cancel = true;
        break;
    case CrbAction::kAbandon:
        wish.abandon = true;
        break;
    }
}

} // namespace banyan::vtpm
