// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/chip/interface.hpp"

#include <algorithm>

namespace banyan::vtpm {
namespace {

constexpr std::uint64_t lanes_mask(unsigned lanes)
{
    return (std::uint64_t{1} << (lanes * 8)) - 1;
}

bool in_one_page(std::uint32_t offset, unsigned width)
{
    return offset < kLocalities * kPageSize && width != 0 && width <= 8 && offset % kPageSize + width <= kPageSize;
}

} // namespace

void Interface::power_on(bool established)
{
    localities_ = {};
    established_ = established;
    interrupts_.reset();
    power_cycled();
}

std::uint64_t Interface::read(std::uint32_t offset, unsigned width)
{
    if (!in_one_page(offset, width)) {
        return ~std::uint64_t{0};
    }
    const auto locality = static_cast<std::uint8_t>(offset / kPageSize);
    const std::uint32_t at = offset % kPageSize;
    std::uint64_t result = 0;
    for (unsigned done = 0; done < width;) {
        const unsigned first = (at + done) % 4;
        const unsigned lanes = std::min(4 - first, width - done);
        const std::uint32_t value = read_lanes(locality, at + done - first, first, lanes, width);
        result |= (value & lanes_mask(lanes)) << (done * 8);
        done += lanes;
    }
    return result;
}

Wish Interface::write(std::uint32_t offset, unsigned width, std::uint64_t value)
{
    Wish wish;
    const auto locality = static_cast<std::uint8_t>(offset / kPageSize);
    if (!in_one_page(offset, width) || locality == kHardwareLocality) { // locality 4 is the processor's
        return wish;
    }
    const std::uint32_t at = offset % kPageSize;
    for (unsigned done = 0; done < width;) {
        const unsigned first = (at + done) % 4;
        const unsigned lanes = std::min(4 - first, width - done);
        write_lanes(locality, at + done - first, first, lanes,
                    static_cast<std::uint32_t>((value >> (done * 8)) & lanes_mask(lanes)), wish);
        done += lanes;
    }
    return wish;
}

Wish Interface::hardware_seize()
{
    Wish wish;
    locality_event(LocalityEvent::kHardwareSeize, kHardwareLocality, wish);
    return wish;
}

void Interface::hardware_release()
{
    Wish nothing;
    locality_event(LocalityEvent::kRelinquish, kHardwareLocality, nothing);
}

void Interface::set_established(bool established)
{
    const bool cleared = established_ && !established;
    established_ = established;
    if (cleared) {
        establishment_cleared();
    }
}

void Interface::locality_event(LocalityEvent event, std::uint8_t locality, Wish &wish)
{
    const std::uint8_t before = localities_.active;
    const LocalityStep result = step(localities_, event, locality);
    localities_ = result.next;
    if (result.released) {
        released(wish);
    }
    if (localities_.active != before && localities_.active != kNoLocality) {
        granted(localities_.active);
    }
}

void Interface::write_int_enable(std::uint8_t locality, std::uint32_t writable, unsigned first, unsigned lanes,
                                 std::uint32_t value)
{
    const auto touched = static_cast<std::uint32_t>(lanes_mask(lanes) << (first * 8));
    const std::uint32_t kept = interrupts_.enabled(locality) & ~touched;
    interrupts_.enable(locality, (kept | (value << (first * 8))) & writable);
}

} // namespace banyan::vtpm
