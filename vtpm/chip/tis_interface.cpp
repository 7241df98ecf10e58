// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/chip/tis_interface.hpp"

#include <algorithm>
#include <bit>

namespace banyan::vtpm {

using namespace tis;

void TisInterface::power_on(bool established)
{
    localities_ = {};
    fifo_ = FifoState::kIdle;
    established_ = established;
    received_ = 0;
    read_at_ = 0;
    buffer_.fill(0);
}

std::uint64_t TisInterface::read(std::uint32_t offset, unsigned width)
{
    const std::uint32_t page = offset / kPageSize;
    const std::uint32_t at = offset % kPageSize;
    if (page >= kLocalities || width == 0 || width > 8 || at + width > kPageSize) {
        return ~std::uint64_t{0};
    }

    std::uint64_t result = 0;
    for (unsigned done = 0; done < width;) {
        const std::uint32_t word_at = (at + done) & ~std::uint32_t{3};
        const unsigned first = (at + done) - word_at;
        const unsigned lanes = std::min(4 - first, width - done);
        std::uint32_t word = 0xffff'ffff;
        if (const RegSpec *spec = find_reg(word_at); spec != nullptr) {
            word = read_word(static_cast<std::uint8_t>(page), *spec, lanes, width);
            if (spec->reg != Reg::kDataFifo && spec->reg != Reg::kXdataFifo) { // a FIFO's bytes begin at lane 0
                word >>= first * 8;
            }
        }
        const std::uint64_t mask = (std::uint64_t{1} << (lanes * 8)) - 1;
        result |= (word & mask) << (done * 8);
        done += lanes;
    }
    return result;
}

Wish TisInterface::write(std::uint32_t offset, unsigned width, std::uint64_t value)
{
    Wish wish;
    const std::uint32_t page = offset / kPageSize;
    const std::uint32_t at = offset % kPageSize;
    if (page >= kHardwareLocality || width == 0 || width > 8 || at + width > kPageSize) {
        return wish; // locality 4 is the processor's
    }
    for (unsigned done = 0; done < width;) {
        const std::uint32_t word_at = (at + done) & ~std::uint32_t{3};
        const unsigned first = (at + done) - word_at;
        const unsigned lanes = std::min(4 - first, width - done);
        if (const RegSpec *spec = find_reg(word_at); spec != nullptr) {
            const std::uint64_t mask = (std::uint64_t{1} << (lanes * 8)) - 1;
            write_word(static_cast<std::uint8_t>(page), *spec, static_cast<std::uint32_t>((value >> (done * 8)) & mask),
                       first, lanes, wish);
        }
        done += lanes;
    }
    return wish;
}

std::uint32_t TisInterface::read_word(std::uint8_t locality, const RegSpec &spec, unsigned lanes, unsigned width)
{
    if (spec.active_only && localities_.active != locality) {
        return 0xffff'ffff;
    }
    switch (spec.reg) {
    case Reg::kAccess:
        return access_word(locality);
    case Reg::kSts:
        return sts_word(width);
    case Reg::kDataFifo:
    case Reg::kXdataFifo: {
        std::uint32_t word = 0;
        for (unsigned i = 0; i < lanes; ++i) {
            word |= static_cast<std::uint32_t>(pop()) << (i * 8);
        }
        return word;
    }
    case Reg::kDidVid:
        return did_vid_ != 0 ? did_vid_ : spec.reset;
    case Reg::kIntEnable:
    case Reg::kIntVector:
    case Reg::kIntStatus:
    case Reg::kIntfCapability:
    case Reg::kHashEnd:
    case Reg::kHashStart:
    case Reg::kInterfaceId:
    case Reg::kRid:
        return spec.reset;
    }
    return 0xffff'ffff;
}

void TisInterface::write_word(std::uint8_t locality, const RegSpec &spec, std::uint32_t value, unsigned first_lane,
                              unsigned lanes, Wish &wish)
{
    if (spec.active_only && localities_.active != locality) {
        return;
    }
    if (spec.reg == Reg::kDataFifo || spec.reg == Reg::kXdataFifo) {
        for (unsigned i = 0; i < lanes; ++i) {
            push(static_cast<std::uint8_t>(value >> (i * 8)));
        }
        return;
    }
    const std::uint32_t bits = (value << (first_lane * 8)) & spec.guest_writable;
    if (spec.reg == Reg::kAccess) {
        write_access(locality, bits, wish);
    } else if (spec.reg == Reg::kSts) {
        write_sts(locality, bits, wish);
    }
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

Wish TisInterface::hardware_seize()
{
    Wish wish;
    locality_event(LocalityEvent::kHardwareSeize, kHardwareLocality, wish);
    return wish;
}

void TisInterface::hardware_release()
{
    Wish nothing;
    locality_event(LocalityEvent::kRelinquish, kHardwareLocality, nothing);
}

void TisInterface::locality_event(LocalityEvent event, std::uint8_t locality, Wish &wish)
{
    const LocalityStep result = step(localities_, event, locality);
    localities_ = result.next;
    if (result.released) {
        fifo_event(FifoEvent::kRelease, wish);
    }
}

void TisInterface::fifo_event(FifoEvent event, Wish &wish)
{
    const FifoStep result = step(fifo_, event);
    fifo_ = result.next;
    switch (result.action) {
    case FifoAction::kIgnore:
    case FifoAction::kStore:
    case FifoAction::kPublish:
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
