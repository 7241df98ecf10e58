// SPDX-License-Identifier: GPL-2.0-or-later
// An instance in a snapshot: what it holds outside its TPM, and how it comes to rest before and back after.
#include <algorithm>

#include "vtpm/chip/state_bytes.hpp"
#include "vtpm/link/snapshot.hpp"
#include "vtpm/manager/instance.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::uint8_t kImageVersion = 1;
constexpr unsigned kDeathsBound = 1000;

// Nothing that a guest starts takes longer; the link's watchdog ends it first.
constexpr std::uint64_t kRestNs = 61'000'000'000;
constexpr int kRestRounds = 8; // an abandoned command, a reset of tpmEstablishment behind it, a worker restarted ...

void put_setup(StateWriter &out, const InstanceSetup &setup)
{
    out.put8(static_cast<std::uint8_t>(setup.interface));
    out.put8(setup.interrupts ? 1 : 0);
    out.put32(setup.did_vid);
    out.put32(setup.banks);
    out.put64(setup.window);
}

bool is_setup(StateReader &in, const InstanceSetup &setup)
{
    StateWriter mine;
    put_setup(mine, setup);
    const auto theirs = in.get_bytes(mine.bytes().size());
    return in.ok() && std::equal(theirs.begin(), theirs.end(), mine.bytes().begin());
}

} // namespace

Result<InterfaceImage> parse_interface(std::span<const std::uint8_t> bytes, const InstanceSetup &setup)
{
    StateReader in(bytes);
    if (in.get8() != kImageVersion || !in.ok()) {
        return fail(Errc::kCorrupt);
    }
    if (!is_setup(in, setup)) {
        return fail(in.ok() ? Errc::kUnsupported : Errc::kCorrupt);
    }
    InterfaceImage image;
    image.interface = make_interface(setup);
    const std::uint8_t state = in.get8();
    const std::uint8_t held = in.get8();
    image.deaths = in.get32();
    image.visible_at_ns = static_cast<std::int64_t>(in.get64());
    if (!image.interface->load(in)) {
        return fail(Errc::kCorrupt);
    }
    const std::uint32_t size = in.get32();
    const auto response = in.get_bytes(size);
    if (!in.at_end() || held > 1 || image.deaths > kDeathsBound || size > image.interface->buffer_size()) {
        return fail(Errc::kCorrupt);
    }
    if (state != static_cast<std::uint8_t>(PowerState::kOff) &&
        state != static_cast<std::uint8_t>(PowerState::kReady) &&
        state != static_cast<std::uint8_t>(PowerState::kFailed)) {
        return fail(Errc::kCorrupt);
    }
    image.state = static_cast<PowerState>(state);
    image.held = held != 0;
    image.response.assign(response.begin(), response.end());
    // A command that executes has its response with it; without one nothing executes.
    if (image.interface->executing() != image.held || (image.held && image.state != PowerState::kReady) ||
        (image.held ? !response_header_ok(image.response) : !image.response.empty())) {
        return fail(Errc::kCorrupt);
    }
    return image;
}

bool Instance::launch_is_open() const
{
    return (launch_open(launch_) && launch_ != LaunchState::kFailed) || state_ == PowerState::kHeld ||
           (state_ == PowerState::kStarting && hold_) || work_ == Work::kStartup;
}

bool Instance::at_rest()
{
    switch (state_) {
    case PowerState::kStarting:
        return false;
    case PowerState::kReady:
        return (work_ == Work::kNone || held_) && !established_wanted_ && link_->health() == Health::kReady;
    case PowerState::kOff:
    case PowerState::kStopping: // the engine gets the order to end the worker before it is asked for the state
    case PowerState::kFailed:
    case PowerState::kParked:
    case PowerState::kAbsent:
    case PowerState::kHeld:
        return true;
    }
    return true;
}

Result<std::vector<std::uint8_t>> Instance::save(const SealOrder &order, std::int64_t now_ns, std::string &why)
{
    Guard guard(*this);
    for (int round = 0; round < kRestRounds && !launch_is_open(); ++round) {
        service(now_ns);
        look_after_idle_worker();
        if (at_rest()) {
            break;
        }
        wait_for_worker(guard, kRestNs);
    }
    if (launch_is_open()) {
        why = "a launch is open: until it ends there is no state that may be brought back";
        return fail(Errc::kBadState);
    }
    if (!at_rest()) {
        why = "its command does not end";
        return fail(Errc::kBusy);
    }
    if (state_ == PowerState::kReady && !checkpoint(guard)) {
        why = "its TPM gave no state";
        return fail(Errc::kIo);
    }
    const std::unique_ptr<Interface> blank = make_interface(setup_);
    StateWriter out;
    out.put8(kImageVersion);
    put_setup(out, setup_);
    // One that is parked is failed until the next power-on, there as here.
    const PowerState powered_as = state_ == PowerState::kReady ? PowerState::kReady : PowerState::kFailed;
    out.put8(static_cast<std::uint8_t>(powered() ? powered_as : PowerState::kOff));
    out.put8(held_ ? 1 : 0);
    out.put32(deaths_);
    out.put64(held_ ? static_cast<std::uint64_t>(visible_at_ns_) : 0);
    (powered() ? interface_ : blank)->save(out);
    const std::size_t response = held_ ? std::min(staged_size_, interface_->buffer_size()) : 0;
    out.put32(static_cast<std::uint32_t>(response));
    out.put_bytes({staged_.data(), response});
    SealOrder mine = order;
    mine.running = state_ == PowerState::kReady;
    return link_->seal(mine, out.bytes(), why);
}

/// The engine holds the TPM as it is, whole. At rest only.
bool Instance::checkpoint(Guard &guard)
{
    std::vector<std::uint8_t> nothing(kTpmBufferSize); // a held response stays where it is
    if (!link_->post(Op::kCheckpoint, 0, {})) {
        return false;
    }
    auto answer = link_->collect(nothing);
    for (int round = 0; !answer && round < kRestRounds && link_->health() == Health::kReady; ++round) {
        wait_for_worker(guard, kRestNs);
        answer = link_->collect(nothing);
    }
    return answer && answer->kind == Answer::Kind::kOk;
}

Result<InterfaceImage> Instance::open(std::span<const std::uint8_t> part, std::string &why)
{
    const Guard guard(*this);
    if (launch_is_open()) {
        why = "a launch is open: no older state may come back now";
        return fail(Errc::kBadState);
    }
    BANYAN_TRY(const SnapshotHead head, parse_part(part));
    BANYAN_TRY(const auto bytes, link_->open(part, why));
    auto image = parse_interface(bytes, setup_);
    if (!image && image.error() == Errc::kUnsupported) {
        why = "it was saved with another interface, DID/VID or window, other banks or interrupts";
        return fail(Errc::kUnsupported);
    }
    if (!image || (image->state == PowerState::kReady) != (head.volatile_size != 0)) {
        why = "its interface is in no state that there is";
        return fail(Errc::kCorrupt);
    }
    return image;
}

Status Instance::resume(InterfaceImage image, std::string &why)
{
    Guard guard(*this);
    settle();
    if (erasing_ || state_ == PowerState::kAbsent) {
        why = "it was erased";
        return fail(Errc::kNotFound);
    }
    ++ticket_;
    work_ = Work::kNone;
    held_ = false;
    hold_ = false;
    established_wanted_ = false;
    launch_ = LaunchState::kClosed;
    deaths_ = image.deaths;
    state_ = PowerState::kOff;
    interface_ = std::move(image.interface);
    if (const Status installed = link_->install(why); !installed) {
        state_ = PowerState::kStarting;
        become_failed();
        return installed;
    }
    if (image.state == PowerState::kFailed) {
        state_ = PowerState::kFailed;
        launch_ = LaunchState::kFailed;
    }
    if (image.state != PowerState::kReady) {
        return {};
    }
    state_ = PowerState::kStarting;
    resuming_ = true;
    link_->set_up({setup_.banks, static_cast<std::uint32_t>(interface_->buffer_size()), 0});
    if (!link_->start(true)) {
        become_failed();
    }
    for (int round = 0; state_ == PowerState::kStarting && round < kRestRounds;) {
        if (const Health health = link_->health(); health == Health::kBooting) {
            ++round;
            wait_for_worker(guard, kRestNs);
        } else if (health == Health::kReady) {
            state_ = PowerState::kReady; // its interface goes on as it was saved
        } else {
            worker_gone(health); // bounded, too
            round = 0;
        }
    }
    if (state_ != PowerState::kReady) {
        if (state_ == PowerState::kStarting) {
            become_failed();
        }
        why = "its TPM does not start from the saved state";
        return fail(Errc::kCorrupt);
    }
    if (image.held) {
        held_ = true;
        look_asked_ = false;
        work_ = Work::kCommand;
        visible_at_ns_ = image.visible_at_ns;
        staged_size_ = image.response.size();
        std::copy(image.response.begin(), image.response.end(), staged_.begin());
    }
    return {};
}

void Instance::lose()
{
    const Guard guard(*this);
    ++ticket_;
    if (powered() || state_ == PowerState::kStarting || state_ == PowerState::kHeld) {
        become_failed();
    }
}

} // namespace banyan::vtpm
