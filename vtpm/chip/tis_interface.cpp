// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/chip/tis_interface.hpp"

#include <algorithm>
#include <bit>

namespace banyan::vtpm {

using namespace tis;

void TisInterface::power_cycled()
{
    fifo_ = FifoState::kIdle;
    vector_ = 0;
    received_ = 0;
    read_at_ = 0;
    buffer_.fill(0);
}

std::uint32_t TisInterface::read_lanes(std::uint8_t locality, std::uint32_t at, unsigned first, unsigned lanes,
                                       unsigned width)
{
    const RegSpec *spec = find_reg(at);
    if (spec == nullptr || (spec->active_only && localities_.active != locality)) {
        return 0xffff'ffff;
    }
    if (spec->reg == Reg::kDataFifo || spec->reg == Reg::kXdataFifo) { // a FIFO's bytes begin at lane 0
        std::uint32_t word = 0;
        for (unsigned i = 0; i < lanes; ++i) {
            word |= static_cast<std::uint32_t>(pop()) << (i * 8);
        }
        return word;
    }
    return read_word(locality, *spec, width) >> (first * 8);
}

void TisInterface::write_lanes(std::uint8_t locality, std::uint32_t at, unsigned first, unsigned lanes,
                               std::uint32_t value, Wish &wish)
{
    const RegSpec *spec = find_reg(at);
    if (spec == nullptr || (spec->active_only && localities_.active != locality)) {
        return;
    }
    const std::uint32_t bits = (value << (first * 8)) & spec->guest_writable;
    switch (spec->reg) {
    case Reg::kAccess:
        write_access(locality, bits, wish);
        break;
    case Reg::kSts:
        write_sts(locality, bits, wish);
        break;
    case Reg::kDataFifo:
    case Reg::kXdataFifo:
        for (unsigned i = 0; i < lanes; ++i) {
            push(static_cast<std::uint8_t>(value >> (i * 8)));
        }
        break;
    case Reg::kIntEnable:
        write_int_enable(locality, spec->guest_writable, first, lanes, value);
        break;
    case Reg::kIntVector:
        if (interrupts_.wired() && first == 0) {
            vector_ = bits;
        }
        break;
    case Reg::kIntStatus:
        interrupts_.acknowledge(locality, bits);
        break;
    case Reg::kIntfCapability:
    case Reg::kHashEnd:
    case Reg::kHashStart:
    case Reg::kInterfaceId:
    case Reg::kDidVid:
    case Reg::kRid:
        break;
    }
}

std::uint32_t TisInterface::read_word(std::uint8_t locality, const RegSpec &spec, unsigned width) const
{
    switch (spec.reg) {
    case Reg::kAccess:
        return access_word(locality);
    case Reg::kSts:
        return sts_word(width);
    case Reg::kDidVid:
        return did_vid_ != 0 ? did_vid_ : spec.reset;
    case Reg::kIntEnable:
        return spec.reset | interrupts_.enabled(locality);
    case Reg::kIntVector:
        return vector_;
    case Reg::kIntStatus:
        return interrupts_.status(locality);
    case Reg::kIntfCapability:
        return interrupts_.wired() ? spec.reset | kIntCapability : spec.reset;
    case Reg::kDataFifo:
    case Reg::kXdataFifo:
    case Reg::kHashEnd:
    case Reg::kHashStart:
    case Reg::kInterfaceId:
    case Reg::kRid:
        return spec.reset;
    }
    return 0xffff'ffff;
}

std::uint32_t TisInterface::access_word(std::uint8_t locality) const
{
    std::uint32_t word = Access::TpmRegValidSts::kMask;
    word = Access::TpmEstablishment::with(word, !established_); // inverted, PTP 6.5.2.4
    word = Access::RequestUse::with(word, localities_.waits(locality));
    word = Access::PendingRequest::with(word, localities_.others_wait(locality));
    word = Access::BeenSeized::with(word, localities_.been_seized(locality));
    return Access::ActiveLocality::with(word, localities_.active == locality);
}

std::uint32_t TisInterface::sts_word(unsigned width) const
{
    std::uint32_t word = find_reg(static_cast<std::uint32_t>(Reg::kSts))->reset;
    std::size_t burst = 0;
    switch (fifo_) {
    case FifoState::kIdle:
    case FifoState::kExecution:
    case FifoState::kAborting:
    case FifoState::kAbortingReady:
        break;
    case FifoState::kReady:
        word = Sts::CommandReady::with(word, true);
        burst = buffer_.size();
        break;
    case FifoState::kReception:
        word = Sts::Expect::with(word, expects_more());
        burst = buffer_.size() - received_;
        break;
    case FifoState::kCompletion:
        word = Sts::DataAvail::with(word, read_at_ < received_);
        burst = received_ - read_at_;
        break;
    }
    if (width == 1) { // read byte by byte, 0x100 must not look like 0 in its lower half
        burst = std::min<std::size_t>(burst, 0xff);
    }
    return Sts::BurstCount::with(word, static_cast<std::uint32_t>(burst));
}

void TisInterface::write_access(std::uint8_t locality, std::uint32_t value, Wish &wish)
{
    // PTP leaves several bits in one write to us: in this order.
    if (Access::ActiveLocality::get(value)) {
        locality_event(LocalityEvent::kRelinquish, locality, wish);
    }
    if (Access::BeenSeized::get(value)) {
        locality_event(LocalityEvent::kClearSeized, locality, wish);
    }
    if (Access::Seize::get(value)) {
        locality_event(LocalityEvent::kSeize, locality, wish);
    }
    if (Access::RequestUse::get(value)) {
        locality_event(LocalityEvent::kRequest, locality, wish);
    }
}

void TisInterface::write_sts(std::uint8_t locality, std::uint32_t value, Wish &wish)
{
    if (Sts::ResetEstablishmentBit::get(value)) { // PTP 6.5.2.7: locality 3 or 4, no command under way
        if (locality >= 3 && (fifo_ == FifoState::kIdle || fifo_ == FifoState::kReady)) {
            wish.reset_established = true;
        }
        return;
    }
    // PTP: of commandReady, tpmGo, responseRetry and commandCancel software sets one at a time.
    if (std::popcount(value) != 1) {
        return;
    }
    if (Sts::CommandReady::get(value)) {
        fifo_event(FifoEvent::kCommandReady, wish);
    } else if (Sts::TpmGo::get(value)) {
        if (!expects_more()) {
            fifo_event(FifoEvent::kGo, wish);
        }
    } else if (Sts::ResponseRetry::get(value)) {
        fifo_event(FifoEvent::kRetry, wish);
    } else {
        fifo_event(FifoEvent::kCancel, wish);
    }
}

bool TisInterface::expects_more() const
{
    if (received_ < kTpmSizeAt + 4) {
        return true; // commandSize is not known yet
    }
    return received_ < std::min<std::size_t>(load_be32(buffer_, kTpmSizeAt), buffer_.size());
}

std::uint8_t TisInterface::pop()
{
    if (fifo_ != FifoState::kCompletion || read_at_ >= received_) {
        return 0xff;
    }
    return buffer_[read_at_++];
}

void TisInterface::push(std::uint8_t byte)
{
    if (fifo_ == FifoState::kReception && !expects_more()) {
        return; // PTP: ignored once Expect is 0
    }
    Wish nothing;
    if (step(fifo_, FifoEvent::kByteIn).action == FifoAction::kStore) {
        fifo_event(FifoEvent::kByteIn, nothing);
        buffer_[received_++] = byte;
        if (!expects_more()) {
            interrupts_.occur(localities_.active, IntEnable::StsValid::kMask);
        }
    }
}

void TisInterface::respond(std::span<const std::uint8_t> response)
{
    Wish nothing;
    if (step(fifo_, FifoEvent::kResponse).action == FifoAction::kPublish) {
        received_ = std::min(response.size(), buffer_.size());
        read_at_ = 0;
        std::copy_n(response.begin(), received_, buffer_.begin());
    }
    fifo_event(FifoEvent::kResponse, nothing);
}

void TisInterface::fifo_event(FifoEvent event, Wish &wish)
{
    const FifoStep result = step(fifo_, event);
    if (result.next == FifoState::kReady && fifo_ != FifoState::kReady) {
        interrupts_.occur(localities_.active, IntEnable::CommandReady::kMask);
    }
    fifo_ = result.next;
    switch (result.action) {
    case FifoAction::kIgnore:
    case FifoAction::kStore:
        break;
    case FifoAction::kPublish:
        interrupts_.occur(localities_.active, IntEnable::DataAvail::kMask | IntEnable::StsValid::kMask);
        break;
    case FifoAction::kClear:
        received_ = 0;
        read_at_ = 0;
        break;
    case FifoAction::kDispatch:
        wish.dispatch = true;
        break;
    case FifoAction::kRewind:
        read_at_ = 0;
        break;
    case FifoAction::kCancel:
        wish.cancel = true;
        break;
    case FifoAction::kAbandon:
        wish.abandon = true;
        break;
    }
}

} // namespace banyan::vtpm
