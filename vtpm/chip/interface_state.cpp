// SPDX-License-Identifier: GPL-2.0-or-later
// The interfaces in a snapshot: docs/spec/vtpm.md, "Snapshot". What no sequence of accesses leads to does not come in by
// a file either. A snapshot waits for the end of an abandoned command, so the two states of aborting are never in it.
#include <algorithm>

#include "vtpm/chip/crb_interface.hpp"
#include "vtpm/chip/tis_interface.hpp"
#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::uint8_t kAllLocalities = (1U << kLocalities) - 1;

bool could_be(const Localities &who)
{
    const bool owned = who.active != kNoLocality;
    return (!owned || who.active < kHardwareLocality) && ((who.requested | who.seized) & ~kAllLocalities) == 0 &&
           !who.waits(kHardwareLocality) && (owned ? !who.waits(who.active) : who.requested == 0);
}

} // namespace

void Interface::save(StateWriter &out) const
{
    out.put8(localities_.active);
    out.put8(localities_.requested);
    out.put8(localities_.seized);
    out.put8(established_ ? 1 : 0);
    for (std::uint8_t locality = 0; locality < kLocalities; ++locality) {
        out.put32(interrupts_.enabled(locality));
        out.put32(interrupts_.status(locality));
    }
    save_protocol(out);
}

bool Interface::load(StateReader &in)
{
    localities_.active = in.get8();
    localities_.requested = in.get8();
    localities_.seized = in.get8();
    const std::uint8_t established = in.get8();
    established_ = established != 0;
    bool interrupts = true;
    for (std::uint8_t locality = 0; locality < kLocalities; ++locality) {
        const std::uint32_t enabled = in.get32();
        const std::uint32_t status = in.get32();
        interrupts = interrupts_.put_back(locality, enabled, status, interrupt_bits()) && interrupts;
    }
    return in.ok() && established <= 1 && interrupts && could_be(localities_) && load_protocol(in);
}

void TisInterface::save_protocol(StateWriter &out) const
{
    out.put8(static_cast<std::uint8_t>(fifo_));
    out.put32(vector_);
    out.put32(static_cast<std::uint32_t>(received_));
    out.put32(static_cast<std::uint32_t>(read_at_));
    out.put_bytes({buffer_.data(), received_});
}

bool TisInterface::load_protocol(StateReader &in)
{
    using namespace tis;
    const std::uint8_t state = in.get8();
    vector_ = in.get32();
    received_ = in.get32();
    read_at_ = in.get32();
    if (!in.ok() || state >= kFifoStates.size() || received_ > buffer_.size() ||
        (vector_ & ~find_reg(static_cast<std::uint32_t>(Reg::kIntVector))->guest_writable) != 0) {
        return false;
    }
    fifo_ = kFifoStates[state];
    const auto bytes = in.get_bytes(received_);
    std::copy(bytes.begin(), bytes.end(), buffer_.begin());
    const bool owned = localities_.active != kNoLocality;
    switch (fifo_) {
    case FifoState::kIdle:
        return in.ok() && received_ == 0 && read_at_ == 0;
    case FifoState::kReady:
        return in.ok() && owned && received_ == 0 && read_at_ == 0;
    case FifoState::kReception:
        return in.ok() && owned && received_ != 0 && read_at_ == 0;
    case FifoState::kExecution:
        return in.ok() && owned && !expects_more() && read_at_ == 0;
    case FifoState::kCompletion:
        return in.ok() && owned && read_at_ <= received_ && response_header_ok(command());
    case FifoState::kAborting:
    case FifoState::kAbortingReady:
        return false;
    }
    return false;
}

std::uint32_t TisInterface::interrupt_bits() const
{
    return tis::find_reg(static_cast<std::uint32_t>(tis::Reg::kIntEnable))->guest_writable;
}

void CrbInterface::save_protocol(StateWriter &out) const
{
    out.put8(static_cast<std::uint8_t>(crb_));
    out.put8(cancel_ ? 1 : 0);
    const auto used = static_cast<std::size_t>(
        std::find_if(buffer_.rbegin(), buffer_.rend(), [](std::uint8_t byte) { return byte != 0; }).base() -
        buffer_.begin());
    out.put32(static_cast<std::uint32_t>(used)); // zeros after it
    out.put_bytes({buffer_.data(), used});
}

bool CrbInterface::load_protocol(StateReader &in)
{
    using namespace crb;
    const std::uint8_t state = in.get8();
    const std::uint8_t cancel = in.get8();
    const std::uint32_t used = in.get32();
    if (!in.ok() || state >= kCrbStates.size() || cancel > 1 || used > buffer_.size()) {
        return false;
    }
    crb_ = kCrbStates[state];
    cancel_ = cancel != 0;
    const auto bytes = in.get_bytes(used);
    buffer_.fill(0);
    std::copy(bytes.begin(), bytes.end(), buffer_.begin());
    if (!in.ok() || (used != 0 && bytes.back() == 0)) {
        return false;
    }
    const bool owned = localities_.active != kNoLocality;
    switch (crb_) {
    case CrbState::kIdle:
        return used == 0;
    case CrbState::kReady:
        return owned && used == 0;
    case CrbState::kReception:
    case CrbState::kExecution:
        return owned;
    case CrbState::kCompletion:
        return owned && response_header_ok(command());
    case CrbState::kAborting:
    case CrbState::kAbortingReady:
        return false;
    }
    return false;
}

std::uint32_t CrbInterface::interrupt_bits() const
{
    return crb::find_reg(static_cast<std::uint32_t>(crb::Reg::kIntEnable))->guest_writable;
}

} // namespace banyan::vtpm
