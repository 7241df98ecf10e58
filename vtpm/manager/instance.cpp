// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/manager/instance.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "vtpm/chip/crb_interface.hpp"
#include "vtpm/chip/tis_interface.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::uint64_t kWatchdogNs = 60'000'000'000; // the link's own ends the worker

// TPM_ACCESS_x and TPM_LOC_STATE: in both the register that says tpmRegValidSts
constexpr auto kRegValidAt = static_cast<std::uint32_t>(tis::Reg::kAccess);
static_assert(kRegValidAt == static_cast<std::uint32_t>(crb::Reg::kLocState));

constexpr std::uint64_t kMicrosecond = 1000;

struct CommandCost {
    std::uint32_t code; // TPM_CC, TPM 2.0 library, part 2, table 12
    std::uint64_t ns;
};

// Medians of libtpms on one core, rounded. What is not here counts as short.
constexpr std::array kCommandCosts{
    CommandCost{0x0131, 20000 * kMicrosecond}, // TPM2_CreatePrimary
    CommandCost{0x0143, 18000 * kMicrosecond}, // TPM2_SelfTest
    CommandCost{0x0142, 18000 * kMicrosecond}, // TPM2_IncrementalSelfTest
    CommandCost{0x0153, 20000 * kMicrosecond}, // TPM2_Create
    CommandCost{0x0191, 20000 * kMicrosecond}, // TPM2_CreateLoaded
    CommandCost{0x0148, 1000 * kMicrosecond},  // TPM2_Certify
    CommandCost{0x0157, 500 * kMicrosecond},   // TPM2_Load
    CommandCost{0x0158, 1000 * kMicrosecond},  // TPM2_Quote
    CommandCost{0x0159, 2000 * kMicrosecond},  // TPM2_RSA_Decrypt
    CommandCost{0x015d, 1000 * kMicrosecond},  // TPM2_Sign
    CommandCost{0x0147, 1000 * kMicrosecond},  // TPM2_ActivateCredential
    CommandCost{0x0137, 200 * kMicrosecond},   // TPM2_NV_Write
};
constexpr std::uint64_t kShortCommandNs = 20 * kMicrosecond;
// Who waits no longer than for a signature gives way first: the worker gets the processor without a wake-up.
constexpr std::uint64_t kSoonNs = 1000 * kMicrosecond;

const char *name_of(PowerState state)
{
    switch (state) {
    case PowerState::kOff:
        return "off";
    case PowerState::kStarting:
        return "starting";
    case PowerState::kReady:
        return "ready";
    case PowerState::kStopping:
        return "stopping";
    case PowerState::kFailed:
        return "failed";
    case PowerState::kAbsent:
        return "absent";
    case PowerState::kHeld:
        return "held";
    case PowerState::kParked:
        return "parked";
    }
    return "?";
}

bool is_gone(Health health)
{
    return health == Health::kDead || health == Health::kRefused;
}

} // namespace

std::unique_ptr<Interface> make_interface(const InstanceSetup &setup)
{
    switch (setup.interface) {
    case InterfaceKind::kTis:
        return std::make_unique<TisInterface>(setup.did_vid, setup.interrupts);
    case InterfaceKind::kCrb:
        return std::make_unique<CrbInterface>(setup.did_vid, setup.interrupts, setup.window);
    }
    return nullptr;
}

std::uint64_t command_cost_ns(std::uint32_t command_code)
{
    for (const CommandCost &cost : kCommandCosts) {
        if (cost.code == command_code) {
            return cost.ns;
        }
    }
    return kShortCommandNs;
}

Instance::Instance(InstanceConfig config, std::unique_ptr<InstanceLink> link, Observer *observer)
    : config_(std::move(config)),
      setup_(config_.setup),
      link_(std::move(link)),
      interface_(make_interface(setup_)),
      staged_(kTpmBufferSize),
      account_(observer)
{}

Status Instance::configure(const InstanceSetup &setup)
{
    const Guard guard(*this);
    settle();
    if (state_ != PowerState::kOff) {
        return fail(Errc::kBadState);
    }
    if (setup.interrupts && !config_.irq) {
        return fail(Errc::kUnsupported);
    }
    setup_ = setup;
    interface_ = make_interface(setup_);
    return {};
}

InstanceSetup Instance::setup()
{
    const Guard guard(*this);
    return setup_;
}

std::uint64_t Instance::read(std::uint32_t offset, unsigned width, std::int64_t now_ns)
{
    const Guard guard(*this);
    service(now_ns);
    if (powered()) {
        return interface_->read(offset, width);
    }
    ++counters_.unpowered;
    if ((state_ == PowerState::kStarting || state_ == PowerState::kHeld) && offset % kPageSize == kRegValidAt) {
        return 0; // tpmRegValidSts = 0: come again
    }
    return ~std::uint64_t{0};
}

void Instance::write(std::uint32_t offset, unsigned width, std::uint64_t value, std::int64_t now_ns)
{
    Guard guard(*this);
    service(now_ns);
    if (!powered()) {
        ++counters_.unpowered;
        counters_.denied += state_ == PowerState::kOff || state_ == PowerState::kAbsent ? 1 : 0;
        return;
    }
    if (offset / kPageSize == kHardwareLocality) {
        ++counters_.locality4_writes;
        ++counters_.denied;
    }
    const std::uint64_t before = ticket_;
    perform(interface_->write(offset, width, value), now_ns);
    if (ticket_ == before || work_ == Work::kNone) {
        return;
    }
    const std::uint64_t mine = ticket_;
    if (work_ == Work::kResetEstablished && config_.deterministic) { // software sees when it is done
        wait_for_worker(guard, kWatchdogNs);
        if (ticket_ == mine) {
            service(now_ns);
        }
    }
    if (work_ != Work::kCommand) {
        return;
    }
    const std::uint32_t code = load_be32(interface_->command(), kTpmCodeAt);
    wait_for_worker(guard, config_.deterministic ? kWatchdogNs : config_.sync_bound_ns,
                    command_cost_ns(code) <= kSoonNs);
    if (ticket_ == mine && work_ == Work::kCommand) { // else a power cycle, a launch or another core was quicker
        service(now_ns);
        if (work_ == Work::kNone) {
            ++counters_.in_doorbell;
        }
    }
}

void Instance::wait_for_worker(Guard &guard, std::uint64_t bound_ns, bool soon)
{
    const std::shared_ptr<Waiter> waiter = link_->waiter();
    if (bound_ns == 0 || !waiter) {
        return;
    }
    guard.unlock();
    waiter->wait(bound_ns, soon);
    guard.lock();
}

/// Takes in what happened since the last look: the one place where the state follows the engine.
void Instance::service(std::int64_t now_ns)
{
    settle();
    if (state_ != PowerState::kReady && state_ != PowerState::kHeld) {
        return;
    }
    if (work_ != Work::kNone && !held_) {
        if (const auto answer = link_->collect(staged_)) {
            finish_work(*answer, now_ns);
        } else if (const Health health = link_->health(); is_gone(health)) {
            // It may have answered with its last breath.
            if (const auto last = link_->collect(staged_)) {
                finish_work(*last, now_ns);
            }
            if (state_ == PowerState::kReady || state_ == PowerState::kHeld) {
                worker_gone(health);
            }
        }
    }
    if (held_ && now_ns >= visible_at_ns_) {
        held_ = false;
        work_ = Work::kNone;
        respond(staged_size_);
    }
    if ((state_ == PowerState::kReady || state_ == PowerState::kHeld) && work_ == Work::kNone) {
        if (launch_ == LaunchState::kSeizing) {
            launch_event(LaunchEvent::kEngineFree);
        } else if (established_wanted_) {
            reset_established();
        }
    }
}

/// The staged response, if the interface has room for it. The engine was told how much there is.
void Instance::respond(std::size_t size)
{
    if (size > interface_->buffer_size()) {
        answer_code(TpmRc::kFailure);
    } else {
        give_back({staged_.data(), size});
    }
}

void Instance::tell_host()
{
    account_.locality(interface_->locality());
    const bool level = powered() && interface_->irq_level();
    if (level != irq_ && config_.irq) {
        irq_ = level;
        config_.irq(level);
    }
}

/// Software that waits for an interrupt does not look by itself.
void Instance::ask_for_look()
{
    look_asked_ = look_asked_ && held_;
    if (!setup_.interrupts || work_ == Work::kNone) {
        return;
    }
    if (!held_) {
        link_->ring_when_done();
    } else if (!look_asked_ && config_.look_at) {
        look_asked_ = true;
        config_.look_at(visible_at_ns_);
    }
}

int Instance::bell()
{
    const Guard guard(*this);
    return setup_.interrupts && !config_.deterministic ? link_->bell() : -1;
}

void Instance::look(std::int64_t now_ns)
{
    if (config_.deterministic) {
        const Guard guard(*this);
        look_around(now_ns);
    } else {
        look_owed_ = now_ns;
        look_if_owed();
    }
}

void Instance::look_around(std::int64_t now_ns)
{
    link_->hush();
    service(now_ns);
    look_after_idle_worker();
}

/// Who asks while somebody else has the lock leaves it to him, who comes here after he has let go.
void Instance::look_if_owed()
{
    while (look_owed_ != kNoLook) {
        const std::unique_lock lock(mutex_, std::try_to_lock);
        if (!lock) {
            return;
        }
        if (const std::int64_t asked_at = look_owed_.exchange(kNoLook); asked_at != kNoLook) {
            look_around(asked_at);
            tell_host();
            ask_for_look();
        }
    }
}

/// An idle worker that died is replaced before it is needed, not at every access.
void Instance::look_after_idle_worker()
{
    if ((state_ == PowerState::kReady || state_ == PowerState::kHeld) && work_ == Work::kNone) {
        if (const Health health = link_->health(); is_gone(health)) {
            worker_gone(health);
        }
    }
}

void Instance::settle()
{
    if (state_ == PowerState::kStarting) {
        switch (const Health health = link_->health()) {
        case Health::kBooting:
            break;
        case Health::kReady:
            interface_->power_on(link_->established());
            state_ = hold_ ? PowerState::kHeld : PowerState::kReady;
            break;
        case Health::kOff:
        case Health::kDead:
        case Health::kRefused:
            worker_gone(health);
            break;
        }
    } else if (state_ == PowerState::kStopping) {
        link_->stop(); // asked again if it could not be sent
        if (erasing_) {
            if (link_->erased()) {
                state_ = PowerState::kAbsent;
            }
        } else if (const Health health = link_->health(); is_gone(health) || health == Health::kOff) {
            state_ = PowerState::kOff;
        }
    }
}

void Instance::finish_work(const Answer &answer, std::int64_t now_ns)
{
    const Work done = std::exchange(work_, Work::kNone);
    if (answer.kind == Answer::Kind::kHostile) {
        work_ = done;
        link_->stop();
        worker_lost();
        return;
    }
    if (answer.kind == Answer::Kind::kStoreFailed) {
        ++counters_.store_failures;
    }
    switch (done) {
    case Work::kNone:
        break;
    case Work::kAbandoned:
        give_back({});
        break;
    case Work::kCommand:
        if (answer.kind == Answer::Kind::kRefused) {
            answer_code(TpmRc::kFailure);
        } else if (config_.deterministic && now_ns < visible_at_ns_) {
            held_ = true;
            work_ = Work::kCommand;
            staged_size_ = answer.size;
        } else {
            respond(answer.size);
        }
        break;
    case Work::kStartup:
        if (answer.kind == Answer::Kind::kOk) {
            hold_ = false;
            state_ = PowerState::kReady;
        } else {
            become_failed();
        }
        break;
    case Work::kResetEstablished:
        if (answer.kind == Answer::Kind::kOk) {
            interface_->set_established(false);
        }
        break;
    case Work::kLaunch:
        launch_event(answer.kind == Answer::Kind::kOk ? LaunchEvent::kDone : LaunchEvent::kEngineLost);
        break;
    }
}

void Instance::worker_gone(Health how)
{
    if (how == Health::kDead) {
        worker_lost();
    } else {
        become_failed();
    }
}

LifePart Instance::life_part() const
{
    if (launch_open(launch_)) {
        return LifePart::kLaunching;
    }
    if (state_ == PowerState::kStarting) {
        return resuming_ ? LifePart::kResuming : LifePart::kStarting;
    }
    return state_ == PowerState::kHeld ? LifePart::kHeld : LifePart::kRunning;
}

/// The worker died. What it was doing failed; it is started again unless that could undo a launch, or never ends.
void Instance::worker_lost()
{
    const AfterDeath then = after_death(life_part(), ++deaths_);
    if (then == AfterDeath::kFail || then == AfterDeath::kPark) {
        become_failed();
        if (then == AfterDeath::kPark) {
            state_ = PowerState::kParked;
            link_->report("worker-parked", "died too often in this power cycle; it waits for the next power-on");
        }
        return;
    }
    const Work lost = std::exchange(work_, Work::kNone);
    held_ = false;
    ++counters_.restarts;
    const bool back = link_->start(then == AfterDeath::kRestore).has_value();
    established_wanted_ = established_wanted_ || lost == Work::kResetEstablished;
    if (lost == Work::kCommand) {
        answer_code(TpmRc::kFailure);
    } else if (lost == Work::kAbandoned) {
        give_back({});
    }
    if (!back) {
        become_failed();
    }
}

void Instance::become_failed()
{
    const bool was_starting = state_ == PowerState::kStarting || state_ == PowerState::kHeld;
    const Work lost = std::exchange(work_, Work::kNone);
    state_ = PowerState::kFailed;
    held_ = false;
    established_wanted_ = false;
    link_->stop();
    if (was_starting) {
        interface_->power_on(false);
    } else if (lost == Work::kCommand) {
        answer_code(TpmRc::kFailure);
    } else if (lost == Work::kAbandoned) {
        give_back({});
    }
    launch_ = LaunchState::kFailed;
    interface_->hardware_release();
}

void Instance::perform(Wish wish, std::int64_t now_ns)
{
    if (wish.abandon) {
        ++counters_.abandoned;
        if (held_) { // it has ended, nobody saw it
            held_ = false;
            work_ = Work::kNone;
            give_back({});
        } else if (work_ == Work::kCommand) {
            work_ = Work::kAbandoned;
            link_->cancel();
        }
    }
    if (wish.cancel && !held_) {
        link_->cancel();
    }
    if (wish.reset_established) {
        established_wanted_ = true;
        if (work_ == Work::kNone) {
            reset_established();
        }
    }
    if (wish.dispatch) {
        dispatch(now_ns);
    }
}

void Instance::dispatch(std::int64_t now_ns)
{
    ++ticket_;
    account_.begin(interface_->locality(), interface_->command());
    if (firmware_.already_done(interface_->locality(), interface_->command())) {
        answer_code(TpmRc::kSuccess);
        return;
    }
    if (!command_header_ok(interface_->command())) {
        ++counters_.malformed;
        answer_code(TpmRc::kCommandSize);
        return;
    }
    look_after_idle_worker();
    if (state_ != PowerState::kReady) {
        answer_code(TpmRc::kFailure);
        return;
    }
    if (work_ != Work::kNone) { // a reset of tpmEstablishment is under way
        answer_code(TpmRc::kRetry);
        return;
    }
    if (!link_->post(Op::kCommand, interface_->locality(), interface_->command())) {
        answer_code(TpmRc::kFailure);
        return;
    }
    work_ = Work::kCommand;
    visible_at_ns_ = now_ns + static_cast<std::int64_t>(command_cost_ns(load_be32(interface_->command(), kTpmCodeAt)));
}

void Instance::give_back(std::span<const std::uint8_t> response)
{
    account_.end(response);
    interface_->respond(response);
}

void Instance::answer_code(TpmRc why)
{
    give_back(error_response(why));
}

void Instance::reset_established()
{
    established_wanted_ = false;
    if (state_ == PowerState::kReady && link_->post(Op::kResetEstablished, 3, {})) {
        ++ticket_;
        work_ = Work::kResetEstablished;
    }
}

/// After an H-CRTM sequence: the chip goes on where a held power-on stopped.
void Instance::startup()
{
    ++ticket_;
    if (link_->post(Op::kStartup, 0, {})) {
        work_ = Work::kStartup;
    } else {
        become_failed();
    }
}

void Instance::expect_firmware()
{
    const Guard guard(*this);
    firmware_.expect();
}

Status Instance::power_on(PowerOn mode)
{
    const Guard guard(*this);
    settle();
    if (erasing_) {
        return fail(Errc::kNotFound);
    }
    ++ticket_;
    ++counters_.power_ons;
    work_ = Work::kNone;
    held_ = false;
    established_wanted_ = false;
    launch_ = LaunchState::kClosed;
    deaths_ = 0;
    resuming_ = false;
    firmware_.power_on();
    account_.end({});
    interface_->power_on(false);
    hold_ = mode == PowerOn::kHeld;
    link_->set_up({setup_.banks, static_cast<std::uint32_t>(interface_->buffer_size()), hold_ ? 1U : 0U});
    if (const Status started = link_->start(false); !started) {
        state_ = PowerState::kStarting;
        become_failed();
        return started;
    }
    state_ = PowerState::kStarting;
    return {};
}

Status Instance::power_off()
{
    const Guard guard(*this);
    settle();
    if (state_ == PowerState::kOff || state_ == PowerState::kStopping || state_ == PowerState::kAbsent) {
        return {};
    }
    ++ticket_;
    work_ = Work::kNone;
    held_ = false;
    established_wanted_ = false;
    launch_ = LaunchState::kClosed;
    account_.end({});
    interface_->power_on(false);
    link_->stop();
    state_ = PowerState::kStopping;
    return {};
}

Status Instance::erase()
{
    if (const Status off = power_off(); !off) {
        return off;
    }
    const Guard guard(*this);
    if (erasing_) {
        return {};
    }
    if (const Status asked = link_->erase(); !asked) {
        return asked;
    }
    erasing_ = true;
    state_ = PowerState::kStopping;
    return {};
}

PowerState Instance::state()
{
    Guard guard(*this);
    service(0);
    look_after_idle_worker();
    for (unsigned i = 0; config_.deterministic && state_ == PowerState::kStarting && i <= kDeathsMax; ++i) {
        const std::uint64_t mine = ticket_;
        wait_for_worker(guard, kWatchdogNs);
        if (ticket_ == mine) {
            service(0);
        }
    }
    return state_;
}

Status Instance::launch(LaunchEvent event, std::span<const std::uint8_t> data)
{
    const Guard guard(*this);
    settle();
    firmware_.launch();
    if (!launch_open(launch_)) {
        look_after_idle_worker();
    }
    if (state_ != PowerState::kReady && state_ != PowerState::kHeld) {
        if (state_ == PowerState::kStarting) { // a launch into a TPM that is not there yet must not be forgotten
            become_failed();
        }
        return fail(Errc::kBadState);
    }
    if (event == LaunchEvent::kData) {
        if (data.size() > kLaunchDataMax) {
            launch_event(LaunchEvent::kAbort);
            return fail(Errc::kBadArgument);
        }
        staged_size_ = data.size();
        std::copy(data.begin(), data.end(), staged_.begin());
    }
    launch_event(event);
    if (launch_ == LaunchState::kSeizing && work_ == Work::kNone) {
        launch_event(LaunchEvent::kEngineFree);
    }
    if (launch_ == LaunchState::kFailed && event != LaunchEvent::kAbort) {
        return fail(Errc::kBadState);
    }
    return {};
}

LaunchProgress Instance::launch_poll()
{
    Guard guard(*this);
    service(0);
    for (int i = 0; config_.deterministic && launch_under_way() && i < 5; ++i) {
        const std::uint64_t mine = ticket_;
        wait_for_worker(guard, kWatchdogNs);
        if (ticket_ == mine) {
            service(0);
        }
    }
    if (launch_ == LaunchState::kFailed || !(powered() || state_ == PowerState::kHeld)) {
        return LaunchProgress::kFailed;
    }
    return launch_under_way() ? LaunchProgress::kBusy : LaunchProgress::kDone;
}

void Instance::launch_event(LaunchEvent event)
{
    const LaunchStep result = step(launch_, event);
    launch_ = result.next;
    Op op{};
    std::span<const std::uint8_t> bytes;
    switch (result.action) {
    case LaunchAction::kIgnore:
        return;
    case LaunchAction::kSeize:
        ++ticket_;
        counters_.launches += state_ == PowerState::kHeld ? 0 : 1;
        perform(interface_->hardware_seize(), 0);
        return;
    case LaunchAction::kFinish:
        interface_->hardware_release();
        if (state_ == PowerState::kHeld) { // H-CRTM: not a dynamic launch
            startup();
        } else {
            interface_->set_established(true);
        }
        return;
    case LaunchAction::kFail:
        become_failed();
        return;
    case LaunchAction::kPostStart:
        op = Op::kHashStart;
        break;
    case LaunchAction::kPostData:
        op = Op::kHashData;
        bytes = {staged_.data(), staged_size_};
        break;
    case LaunchAction::kPostEnd:
        op = Op::kHashEnd;
        break;
    }
    ++ticket_;
    if (link_->post(op, kHardwareLocality, bytes)) {
        work_ = Work::kLaunch;
    } else {
        launch_event(LaunchEvent::kEngineLost);
    }
}

std::string Instance::json()
{
    const Guard guard(*this);
    settle();
    const auto flag = [](bool value) { return value ? "true" : "false"; };
    std::string text = std::string("{\"state\":\"") + name_of(state_) + "\",\"interface\":\"" +
                       (setup_.interface == InterfaceKind::kCrb ? "crb" : "tis") +
                       "\",\"banks\":" + std::to_string(setup_.banks) + ",\"interrupts\":" + flag(setup_.interrupts) +
                       ",\"launch_open\":" + flag(launch_open(launch_) && launch_ != LaunchState::kFailed) +
                       ",\"established\":" + flag(interface_->established()) + ",\"locality\":" +
                       (interface_->locality() == kNoLocality ? "-1" : std::to_string(interface_->locality()));
    for (const auto &[name, value] : {
             std::pair{"power_ons", counters_.power_ons},
             std::pair{"commands", account_.commands()},
             std::pair{"command_ns", account_.total_ns()},
             std::pair{"longest_command_ns", account_.longest_ns()},
             std::pair{"in_doorbell", counters_.in_doorbell},
             std::pair{"malformed", counters_.malformed},
             std::pair{"abandoned", counters_.abandoned},
             std::pair{"launches", counters_.launches},
             std::pair{"restarts", counters_.restarts},
             std::pair{"store_failures", counters_.store_failures},
             std::pair{"denied", counters_.denied},
             std::pair{"locality4_writes", counters_.locality4_writes},
             std::pair{"unpowered", counters_.unpowered},
             std::pair{"restores", std::uint64_t{link_->restores()}},
         }) {
        text += std::string(",\"") + name + "\":" + std::to_string(value);
    }
    return text + "}";
}

} // namespace banyan::vtpm
