// SPDX-License-Identifier: GPL-2.0-or-later
#include "cpu-ext/launch/launch.hpp"

#include <algorithm>
#include <new>

namespace banyan::launch {

namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

} // namespace

Result<std::int64_t> Launches::begin(std::uint32_t core, std::uint32_t domain, std::uint64_t slb, std::int64_t now)
{
    if (domain >= kDomains || slb % kSlbSize != 0 || slb > std::uint64_t{0xFFFF'FFFF}) {
        return fail(Errc::kBadArgument);
    }
    const Step next = step(launches_[domain].state, Event::kBegin);
    if (next.action == Action::kRefuse) {
        return fail(Errc::kBadState);
    }
    Launch launch;
    launch.block.reset(new (std::nothrow) Block);
    if (!launch.block) {
        return fail(Errc::kNoSpace);
    }
    launch.state = next.next;
    launch.core = core;
    launch.slb = slb;
    launch.ticket = next_ticket_++;
    launch.times.start_ns = now;
    launches_[domain] = std::move(launch);
    return now;
}

Result<Launches::Progress> Launches::tick(std::uint32_t domain, std::int64_t now, std::int64_t &next)
{
    if (!is_open(domain)) {
        return fail(Errc::kBadState);
    }
    Launch &launch = launches_[domain];
    std::optional<Event> event = observe(domain, now, next);
    while (event) {
        const Step taken = step(launch.state, *event);
        launch.state = taken.next;

        switch (taken.action) {
        case Action::kRefuse: // observe() sees only what the state waits for
            return fail(Errc::kBadState);
        case Action::kReopen:
            host_.window(domain, launch.slb, false);
            launch.block.reset();
            return fail(Errc::kIo);
        case Action::kEnterUnhashed:
            (void)host_.drtm(domain, Drtm::kAbort, {});
            enter(domain, now);
            return Progress::kEntered;
        case Action::kEnter:
            enter(domain, now);
            return Progress::kEntered;
        default:
            break;
        }
        launch.lost = !perform(domain, taken.action, now) || launch.lost;
        event = observe(domain, now, next);
    }
    return Progress::kBusy;
}

std::optional<Event> Launches::observe(std::uint32_t domain, std::int64_t now, std::int64_t &next)
{
    Launch &launch = launches_[domain];
    next = now + static_cast<std::int64_t>(std::max<std::uint64_t>(config_.poll_ns, 1));

    switch (launch.state) {
    case State::kClosed:
        return std::nullopt;

    case State::kWaiting:
        if (granted(launch)) {
            return Event::kGranted;
        }
        launch.waited = true;
        return std::nullopt;

    case State::kDraining:
        if (!host_.drained(domain)) {
            return std::nullopt;
        }
        return host_.read_slb(domain, launch.slb, *launch.block) ? Event::kDrained : Event::kUnreadable;

    case State::kTransferring:
        if (now >= arrival(launch)) {
            return Event::kArrived;
        }
        next = arrival(launch);
        return std::nullopt;

    case State::kStarting:
    case State::kHashing:
    case State::kEnding:
        if (now < launch.cycle_end) {
            next = launch.cycle_end;
            return std::nullopt;
        }
        switch (launch.lost ? Poll::kFailed : host_.drtm_poll(domain)) {
        case Poll::kBusy:
            return std::nullopt;
        case Poll::kFailed: // it enters all the same, and the report names what it enters
            return digested(domain) ? std::optional(Event::kFailed) : std::nullopt;
        case Poll::kDone:
            break;
        }
        if (launch.state == State::kEnding && !digested(domain)) {
            return std::nullopt;
        }
        if (launch.state == State::kHashing) {
            launch.hashed += chunk(launch);
        }
        return launch.state != State::kStarting && launch.hashed == launch.measured ? Event::kDoneLast : Event::kDone;
    }
    return std::nullopt;
}

bool Launches::perform(std::uint32_t domain, Action action, std::int64_t now)
{
    Launch &launch = launches_[domain];

    switch (action) {
    case Action::kCloseWindow:
        launch.times.wait_for_other_domain_ns = launch.waited ? now - launch.times.start_ns : 0;
        host_.window(domain, launch.slb, true);
        return true;

    case Action::kReadAndStart: {
        const std::uint32_t length = header(launch, kHeaderMeasured);
        launch.measured = length == 0 ? kMeasuredForZero : length;
        host_.digest_begin(domain, std::span(*launch.block).first(launch.measured));
        launch.times.hash_start_ns = now;
        launch.cycle_end = now + kCycleNs;
        return host_.drtm(domain, Drtm::kStart, {});
    }

    case Action::kTransfer:
        if (launch.hashed == 0) {
            launch.transfer_start = now;
        }
        return true;

    case Action::kHash:
        return host_.drtm(domain, Drtm::kData, std::span(*launch.block).subspan(launch.hashed, chunk(launch)));

    case Action::kEndHash:
        launch.cycle_end = now + kCycleNs;
        return host_.drtm(domain, Drtm::kEnd, {});

    case Action::kRefuse: // the others are tick()'s, begin()'s and cancel()'s
    case Action::kPark:
    case Action::kEnter:
    case Action::kEnterUnhashed:
    case Action::kDrop:
    case Action::kReopen:
    case Action::kAbort:
        break;
    }
    return true;
}

void Launches::enter(std::uint32_t domain, std::int64_t now)
{
    const Launch launch = std::move(launches_[domain]); // the state is kClosed already
    launches_[domain] = {};

    Times times = launch.times;
    times.hash_end_ns = now;
    times.entry_ns = now;
    const auto slb = static_cast<std::uint32_t>(launch.slb);
    const EntryState entry{slb, slb + header(launch, kHeaderEntry), slb + kStackOffset, launch.measured};
    host_.enter(launch.core, domain, entry, *launch.digest, times);
}

void Launches::cancel(std::uint32_t domain)
{
    if (!is_open(domain)) {
        return;
    }
    const Step taken = step(launches_[domain].state, Event::kCancel);
    const std::uint64_t slb = launches_[domain].slb;
    launches_[domain] = {};
    if (taken.action == Action::kAbort) {
        (void)host_.drtm(domain, Drtm::kAbort, {});
    }
    if (taken.action == Action::kAbort || taken.action == Action::kReopen) {
        host_.window(domain, slb, false);
    }
}

void Launches::reset()
{
    for (std::uint32_t domain = 0; domain < kDomains; ++domain) {
        cancel(domain);
    }
}

bool Launches::is_open(std::uint32_t domain) const
{
    return domain < kDomains && launches_[domain].state != State::kClosed;
}

/// First come, first served; a launch that has left kWaiting holds the arbiter.
bool Launches::granted(const Launch &launch) const
{
    return !config_.serial || std::none_of(launches_.begin(), launches_.end(), [&](const Launch &other) {
        return other.state != State::kClosed && (other.state != State::kWaiting || other.ticket < launch.ticket);
    });
}

std::uint32_t Launches::chunk(const Launch &launch) const
{
    return std::min(launch.measured - launch.hashed, kChunk);
}

bool Launches::digested(std::uint32_t domain)
{
    std::optional<Digest> &digest = launches_[domain].digest;
    if (!digest) {
        digest = host_.digest(domain);
    }
    return digest.has_value();
}

/// When the last byte of the next chunk has crossed the bus: counted from the first byte, so that k bytes never take less
/// than k / rate and rounding does not add up.
std::int64_t Launches::arrival(const Launch &launch) const
{
    if (config_.hash_rate == 0) {
        return launch.transfer_start + kCycleNs * (launch.hashed / kChunk + 1);
    }
    const std::uint64_t bytes = launch.hashed + chunk(launch);
    const std::uint64_t ns = (bytes * kNsPerSecond + config_.hash_rate - 1) / config_.hash_rate;
    return launch.transfer_start + static_cast<std::int64_t>(ns);
}

std::uint16_t Launches::header(const Launch &launch, std::uint32_t offset) const
{
    return static_cast<std::uint16_t>((*launch.block)[offset] | (*launch.block)[offset + 1] << 8);
}

} // namespace banyan::launch
