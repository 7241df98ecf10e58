// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/session.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <set>
#include <sys/socket.h>
#include <sys/wait.h>

#include <fmt/format.h>
#include <openssl/rand.h>

#include "tool/json_access.hpp"
#include "tool/qemu_command.hpp"
#include "tool/ustar.hpp"

namespace banyan::tool {

namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr auto kStatusInterval = 200ms;
constexpr auto kSocketPatience = 10s; // for a peer to take what it is sent
constexpr auto kQuitPatience = 5s;
constexpr std::size_t kNonceSize = 32;
constexpr std::size_t kMaxEvidenceFile = std::size_t{1} << 20;
constexpr unsigned kMostLives = 3; // of a VM with on_reboot = "restart"

/// docs/spec/evidence.md, section 1.
const std::set<std::string, std::less<>> kEvidenceFiles{
    "ak.pem",      "quote.msg",    "quote.sig", "pcrs.bin", "nonce",     "ek.crt",   "ek-rsa.crt", "iak.crt",
    "report.cose", "eventlog.bin", "ima.log",   "slb.bin",  "uname.txt", "seal.txt", "unseal.txt"};

template <typename T>
std::vector<std::uint8_t> bytes_of_struct(const T &value)
{
    std::vector<std::uint8_t> bytes(sizeof(value));
    std::memcpy(bytes.data(), &value, sizeof(value));
    return bytes;
}

} // namespace

const char *name_of(Phase phase)
{
    switch (phase) {
    case Phase::kBootHypervisor:
        return "boot-hypervisor";
    case Phase::kCreate:
        return "create";
    case Phase::kLaunch:
        return "launch";
    case Phase::kBoot:
        return "boot";
    case Phase::kEvidence:
        return "evidence";
    case Phase::kPoweroff:
        return "poweroff";
    }
    return "unknown";
}

std::optional<Phase> phase_of(std::string_view name)
{
    for (std::size_t i = 0; i < kPhases; ++i) {
        if (name == name_of(static_cast<Phase>(i))) {
            return static_cast<Phase>(i);
        }
    }
    return std::nullopt;
}

/// A socket that QEMU connects to.
struct Session::Peer {
    Fd listener;
    Fd socket;
    bool closed = false;
};

struct Session::Vm {
    Vm(const VmPlan &vm_plan, VmResult &vm_result) : plan(vm_plan), result(vm_result) {}

    const VmPlan &plan;
    VmResult &result;
    Peer peer;
    AgentReader reader;
    std::deque<AgentEvent> events;
    std::array<std::uint8_t, kNonceSize> nonce{};
    Phase phase = Phase::kCreate;
    Clock::time_point deadline;
    unsigned life = 1;
    bool restarting = false; // waits for the domain to be DIRTY
    bool over = false;

    [[nodiscard]] const std::string &name() const { return plan.vm.name; }
};

Session::Session(const Plan &plan, SessionOptions options, Progress &progress)
    : plan_(plan),
      options_(std::move(options)),
      progress_(progress),
      qmp_(std::make_unique<Peer>()),
      management_(std::make_unique<Peer>())
{
    result_.vms.resize(plan_.vms.size());
    for (std::size_t i = 0; i < plan_.vms.size(); ++i) {
        result_.vms[i].name = plan_.vms[i].vm.name;
        vms_.push_back(std::make_unique<Vm>(plan_.vms[i], result_.vms[i]));
    }
}

Session::~Session() = default;

Outcome<std::unique_ptr<Session>> Session::open(const Plan &plan, SessionOptions options, Progress &progress)
{
    std::unique_ptr<Session> session(new Session(plan, std::move(options), progress));
    std::vector<std::pair<Peer *, std::string>> peers{{session->qmp_.get(), run_file::kQmp},
                                                      {session->management_.get(), run_file::kManagement}};
    for (auto &vm : session->vms_) {
        peers.emplace_back(&vm->peer, run_file::agent(vm->plan.domain));
    }
    for (auto &[peer, name] : peers) {
        auto listener = listen_at(session->options_.run_folder / name);
        if (!listener) {
            return tl::unexpected<Failure>(std::move(listener.error()));
        }
        peer->listener = std::move(*listener);
    }
    return session;
}

// ---- waiting -------------------------------------------------------------------------------------------------------

Failure Session::qemu_ended(Phase phase, int status)
{
    const fs::path log = options_.evidence / "qemu.log";
    const std::string last = printable(last_line(log));
    const bool crashed =
        WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGABRT ||
                                WTERMSIG(status) == SIGBUS || WTERMSIG(status) == SIGILL || WTERMSIG(status) == SIGFPE);
    const bool by_itself = WIFEXITED(status) && WEXITSTATUS(status) == 0; // reset or power-off of the whole server
    return {crashed || by_itself ? Exit::kBug : Exit::kEnvironment,
            fmt::format("QEMU ended with {} in phase {}{}; it said: {} ({})", describe_wait_status(status),
                        name_of(phase), by_itself ? ", for the emulated server was reset or switched off" : "",
                        last.empty() ? "nothing" : last, log.string())};
}

std::optional<Failure> Session::trouble(Phase phase)
{
    if (interrupted_) {
        return Failure{Exit::kInterrupted, "interrupted"};
    }
    const bool lost = qmp_->closed || management_->closed;
    if (qemu_ && lost) {
        qemu_->wait_until(Clock::now() + 2s); // a closed socket comes a little before the end of its process
    }
    if (qemu_) {
        if (const auto status = qemu_->ended()) {
            return qemu_ended(phase, *status);
        }
    }
    if (lost) {
        return Failure{Exit::kBug, fmt::format("QEMU closed its {} connection in phase {} and went on running",
                                               qmp_->closed ? "QMP" : "management", name_of(phase))};
    }
    if (!frames_broken_.empty()) {
        return Failure{Exit::kBug, fmt::format("the hypervisor's answer in phase {} does not fit the management "
                                               "protocol: {}",
                                               name_of(phase), frames_broken_)};
    }
    if (qmp_reader_.broken()) {
        return Failure{Exit::kBug,
                       fmt::format("QEMU said something on QMP in phase {} that is not JSON", name_of(phase))};
    }
    return std::nullopt;
}

Outcome<void> Session::wait(Phase phase, Clock::time_point until, const std::string &what,
                            const std::function<bool()> &done)
{
    while (!done()) {
        if (auto failure = trouble(phase)) {
            return tl::unexpected<Failure>(std::move(*failure));
        }
        if (Clock::now() >= until) {
            return failed(
                Exit::kTimeout,
                fmt::format("phase {} timed out after {} s: {}; allow more with --timeout {}=SECONDS, or see {}",
                            name_of(phase), options_.timeouts[phase].count(), what, name_of(phase),
                            (options_.evidence / "hypervisor.log").string()));
        }
        loop_.turn(std::min(until, Clock::now() + 1s));
    }
    return {};
}

Outcome<void> Session::connect()
{
    const auto until = Clock::now() + options_.timeouts[Phase::kBootHypervisor];
    const auto accept_one = [&](Peer &peer, const std::string &what, Loop::Handler on_data) -> Outcome<void> {
        loop_.watch(peer.listener.get(), [&peer] {
            peer.socket = Fd(::accept4(peer.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        });
        auto done = wait(Phase::kBootHypervisor, until, "QEMU did not connect its " + what,
                         [&peer] { return static_cast<bool>(peer.socket); });
        loop_.unwatch(peer.listener.get());
        peer.listener.reset();
        if (done) {
            loop_.watch(peer.socket.get(), std::move(on_data));
        }
        return done;
    };
    // Reads a piece and hands it on; a closed socket is noted and watched no more.
    const auto piece = [this](Peer &peer, const auto &take) {
        std::array<std::uint8_t, 65536> buffer; // NOLINT: filled by read_some
        const ReadResult got = read_some(peer.socket.get(), buffer);
        if (got.closed) {
            peer.closed = true;
            loop_.unwatch(peer.socket.get());
            return;
        }
        take(got.bytes);
    };

    auto done = accept_one(*qmp_, "QMP socket", [this, piece] {
        piece(*qmp_, [this](std::span<const std::uint8_t> bytes) { qmp_reader_.feed(bytes); });
    });
    if (!done) {
        return done;
    }
    done = accept_one(*management_, "management socket", [this, piece] {
        piece(*management_, [this](std::span<const std::uint8_t> bytes) {
            frames_.feed(bytes);
            for (;;) {
                auto frame = frames_.next();
                if (!frame) {
                    frames_broken_ = frame.error();
                    return;
                }
                if (!*frame) {
                    return;
                }
                const bool hello =
                    ((*frame)->type & ~mgmt::kResponse) == static_cast<std::uint16_t>(mgmt::Type::kHello);
                if (!hello) {
                    responses_.push_back(std::move(**frame));
                } else if ((*frame)->payload.size() == sizeof(mgmt::HelloPayload)) {
                    std::memcpy(&hello_.emplace(), (*frame)->payload.data(), sizeof(mgmt::HelloPayload));
                } else {
                    frames_broken_ = fmt::format("hello has {} bytes", (*frame)->payload.size());
                }
            }
        });
    });
    for (auto &vm : vms_) {
        if (!done) {
            return done;
        }
        done = accept_one(vm->peer, "agent socket", [vm = vm.get(), piece] {
            piece(vm->peer, [vm](std::span<const std::uint8_t> bytes) {
                for (AgentEvent &event : vm->reader.feed(bytes)) {
                    vm->events.push_back(std::move(event));
                }
            });
        });
    }
    return done;
}

// ---- talking -------------------------------------------------------------------------------------------------------

Outcome<nlohmann::json> Session::execute(Phase phase, const std::string &command, const nlohmann::json &arguments)
{
    const std::uint32_t id = ++qmp_id_;
    nlohmann::json message{{"execute", command}, {"id", id}};
    if (!arguments.is_null()) {
        message["arguments"] = arguments;
    }
    const auto until = Clock::now() + kSocketPatience;
    std::optional<nlohmann::json> reply;
    send_all(qmp_->socket.get(), message.dump() + "\n", until);
    auto done = wait(phase, until, fmt::format("QEMU did not answer {}", command), [&] {
        while (auto next = qmp_reader_.next()) {
            if (next->contains("id") && (*next)["id"] == id) {
                reply = std::move(next);
                return true;
            }
            // The greeting, events, and late answers say nothing that is needed.
        }
        return false;
    });
    if (!done) {
        return tl::unexpected<Failure>(std::move(done.error()));
    }
    if (!reply->contains("return")) {
        return failed(Exit::kBug, fmt::format("QEMU refused {}: {}", command,
                                              printable(text_member(member(*reply, "error"), "desc"))));
    }
    return std::move((*reply)["return"]);
}

Outcome<std::vector<std::uint8_t>> Session::request(Phase phase, mgmt::Type type, std::vector<std::uint8_t> payload,
                                                    const std::string &what)
{
    const auto wire_type = static_cast<std::uint16_t>(type);
    const std::uint32_t sequence = ++sequence_;
    const auto until = Clock::now() + options_.timeouts[phase];
    std::optional<Frame> response;
    send_all(management_->socket.get(), encode({wire_type, sequence, 0, 0, std::move(payload)}), until);
    auto done = wait(phase, until, "the hypervisor did not answer the request to " + what, [&] {
        while (!responses_.empty() && !response) {
            if (responses_.front().sequence == sequence) {
                response = std::move(responses_.front());
            }
            responses_.pop_front();
        }
        return response.has_value();
    });
    if (!done) {
        return tl::unexpected<Failure>(std::move(done.error()));
    }
    if (response->type != (wire_type | mgmt::kResponse)) {
        return failed(Exit::kBug,
                      fmt::format("the hypervisor answered the request to {} with type 0x{:x}", what, response->type));
    }
    if (response->result != static_cast<std::uint32_t>(mgmt::Result::kOk)) {
        const auto result = static_cast<mgmt::Result>(response->result);
        std::string why = name_of(result);
        if (result == mgmt::Result::kRefused) {
            why += fmt::format(" ({})", name_of(static_cast<dt::Status>(response->detail)));
        }
        return failed(Exit::kBug,
                      fmt::format("the hypervisor did not {}: {} (result {}, detail {}); see {}", what, why,
                                  response->result, response->detail, (options_.evidence / "hypervisor.log").string()));
    }
    return std::move(response->payload);
}

// ---- the VMs ---------------------------------------------------------------------------------------------------------

void Session::set_phase(Vm &vm, Phase phase)
{
    vm.phase = phase;
    vm.deadline = Clock::now() + options_.timeouts[phase];
}

std::string Session::console_hint(const Vm &vm) const
{
    return fmt::format("its console is {}", (options_.evidence / "consoles" / (vm.name() + ".log")).string());
}

void Session::give_up(Vm &vm, Exit exit, std::string why)
{
    vm.over = true;
    if (!vm.result.failure) {
        vm.result.failure = Failure{exit, std::move(why)};
    }
    progress_.step(fmt::format("{}: failed", vm.name()));
}

/// Gives up a VM that still runs: nothing good can come of it any more.
void Session::dismiss(Vm &vm, std::string why)
{
    give_up(vm, Exit::kVmFailed, std::move(why));
    // It may have ended a moment ago; a hypervisor in trouble is found at the next turn.
    const auto stopped = request(vm.phase, mgmt::Type::kStop, bytes_of_struct(mgmt::DomainRequest{vm.plan.domain, 0}),
                                 fmt::format("stop VM \"{}\"", vm.name()));
    if (stopped) {
        vm.result.ended = "stopped";
    }
}

Outcome<void> Session::create(Vm &vm)
{
    mgmt::CreateRequest wish{};
    if (RAND_bytes(vm.nonce.data(), static_cast<int>(vm.nonce.size())) != 1) {
        return failed(Exit::kEnvironment, "the system's random number generator failed");
    }
    wish.domain = vm.plan.domain;
    wish.placement_count = static_cast<std::uint32_t>(vm.plan.placements.size());
    wish.nonce_size = static_cast<std::uint32_t>(vm.nonce.size());
    std::copy(vm.nonce.begin(), vm.nonce.end(), wish.nonce);
    wish.descriptor = vm.plan.descriptor;
    std::copy(vm.plan.placements.begin(), vm.plan.placements.end(), wish.placements);
    auto receipt =
        request(Phase::kCreate, mgmt::Type::kCreate, bytes_of_struct(wish), fmt::format("create VM \"{}\"", vm.name()));
    if (!receipt) {
        return tl::unexpected<Failure>(std::move(receipt.error()));
    }
    const fs::path folder = options_.evidence / "owner" / vm.name();
    if (auto done = write_file(folder / "nonce", vm.nonce); !done) {
        return done;
    }
    if (auto done = write_file(folder / "receipt.cose", *receipt); !done) {
        return done;
    }
    progress_.step(fmt::format("{}: created", vm.name()));
    return {};
}

Outcome<void> Session::start(const std::vector<Vm *> &vms)
{
    mgmt::StartRequest wish{};
    std::vector<std::string> names;
    for (Vm *vm : vms) {
        wish.domains |= std::uint64_t{1} << vm->plan.domain;
        names.push_back(vm->name());
    }
    auto started = request(Phase::kLaunch, mgmt::Type::kStart, bytes_of_struct(wish),
                           fmt::format("start {}", fmt::join(names, ", ")));
    if (!started) {
        return tl::unexpected<Failure>(std::move(started.error()));
    }
    for (Vm *vm : vms) {
        vm->result.ended = "hung"; // until it is seen to end
        set_phase(*vm, Phase::kLaunch);
    }
    progress_.step(fmt::format("started {}", fmt::join(names, ", ")));
    return {};
}

Outcome<void> Session::poll_status()
{
    const auto alive = std::find_if(vms_.begin(), vms_.end(), [](const auto &vm) { return !vm->over; });
    const Phase phase = alive != vms_.end() ? (*alive)->phase : Phase::kPoweroff; // for messages and patience
    auto payload = request(phase, mgmt::Type::kStatus, {}, "report the VMs' states");
    if (!payload) {
        return tl::unexpected<Failure>(std::move(payload.error()));
    }
    if (payload->size() != sizeof(status_)) {
        return failed(Exit::kBug, fmt::format("the hypervisor's status has {} bytes instead of {}", payload->size(),
                                              sizeof(status_)));
    }
    std::memcpy(&status_, payload->data(), sizeof(status_));
    return {};
}

Outcome<void> Session::keep_evidence(Vm &vm, const AgentEvent &event)
{
    auto files = read_ustar(event.bytes, kEvidenceFiles, kMaxEvidenceFile);
    if (!files) {
        dismiss(vm, fmt::format("VM \"{}\" sent an archive that is not evidence: {}", vm.name(), files.error()));
        return {};
    }
    for (const auto &[name, bytes] : *files) {
        if (auto done = write_file(options_.evidence / vm.name() / name, bytes); !done) {
            return done;
        }
        if (name == "seal.txt" || name == "unseal.txt") {
            const std::string text(bytes.begin(), bytes.end());
            vm.result.secret = printable(text.substr(0, text.find('\n')));
        }
    }
    vm.result.has_evidence = true;
    return {};
}

Outcome<void> Session::request_end(Vm &vm)
{
    set_phase(vm, Phase::kPoweroff);
    const End end = vm.life == 1 ? options_.end : End::kPoweroff;
    const char *line = nullptr;
    switch (end) {
    case End::kPoweroff:
        line = "poweroff\n";
        break;
    case End::kReboot:
        line = "reboot\n";
        break;
    case End::kPanic:
        line = "panic\n";
        break;
    case End::kHang:
        line = "hang\n";
        break;
    case End::kStop:
        break;
    }
    if (line != nullptr) {
        send_all(vm.peer.socket.get(), line, Clock::now() + kSocketPatience); // deaf VMs run into the time-out
        return {};
    }
    auto stopped = request(Phase::kPoweroff, mgmt::Type::kStop, bytes_of_struct(mgmt::DomainRequest{vm.plan.domain, 0}),
                           fmt::format("stop VM \"{}\"", vm.name()));
    if (!stopped) {
        return tl::unexpected<Failure>(std::move(stopped.error()));
    }
    return {};
}

Outcome<void> Session::handle(Vm &vm, const AgentEvent &event)
{
    switch (event.kind) {
    case AgentEvent::Kind::kReady:
        if (vm.phase == Phase::kLaunch || vm.phase == Phase::kBoot) {
            set_phase(vm, Phase::kEvidence);
            progress_.step(fmt::format("{}: Linux is up, asking for evidence", vm.name()));
            send_all(vm.peer.socket.get(), attest_line(vm.nonce, options_.task), Clock::now() + kSocketPatience);
        }
        return {};
    case AgentEvent::Kind::kEvidence:
        if (vm.phase == Phase::kEvidence && !vm.result.has_evidence) {
            return keep_evidence(vm, event);
        }
        dismiss(vm, fmt::format("VM \"{}\" sent evidence that nobody asked for", vm.name()));
        return {};
    case AgentEvent::Kind::kDone:
        if (vm.phase == Phase::kEvidence && vm.result.has_evidence) {
            progress_.step(fmt::format("{}: evidence is here", vm.name()));
            return request_end(vm);
        }
        dismiss(vm, fmt::format("VM \"{}\" was done before it had sent evidence", vm.name()));
        return {};
    case AgentEvent::Kind::kFailed:
        dismiss(vm, fmt::format("VM \"{}\" could not give evidence: {}; {}", vm.name(),
                                event.text.empty() ? "it does not say why" : event.text, console_hint(vm)));
        return {};
    case AgentEvent::Kind::kBroken:
        dismiss(vm, fmt::format("the agent of VM \"{}\" does not keep to its protocol: {}", vm.name(), event.text));
        return {};
    }
    return {};
}

Outcome<void> Session::restart(Vm &vm)
{
    auto deleted = request(Phase::kCreate, mgmt::Type::kDelete, bytes_of_struct(mgmt::DomainRequest{vm.plan.domain, 0}),
                           fmt::format("delete VM \"{}\" for its restart", vm.name()));
    if (!deleted) {
        return tl::unexpected<Failure>(std::move(deleted.error()));
    }
    vm.restarting = false;
    vm.reader = {};
    vm.events.clear();
    vm.result.has_evidence = false;
    vm.result.launched = false;
    ++vm.life;
    if (auto done = create(vm); !done) {
        return done;
    }
    status_.domains[vm.plan.domain] = {};
    return start({&vm});
}

/// The domain table says that the VM is not running any more.
Outcome<void> Session::ended(Vm &vm)
{
    const auto reason = static_cast<dt::EndReason>(status_.domains[vm.plan.domain].reason);
    switch (reason) {
    case dt::EndReason::kPoweroff:
        vm.result.ended = "poweroff";
        break;
    case dt::EndReason::kReboot:
        vm.result.ended = "reboot";
        break;
    case dt::EndReason::kStopped:
    case dt::EndReason::kReset:
        vm.result.ended = "stopped";
        break;
    case dt::EndReason::kNone:
    case dt::EndReason::kShutdown:
    case dt::EndReason::kSibling:
        vm.result.ended = "shutdown";
        break;
    }
    progress_.step(fmt::format("{}: ended, {}", vm.name(), name_of(reason)));
    if (reason == dt::EndReason::kReboot && vm.plan.vm.on_reboot == OnReboot::kRestart && vm.life < kMostLives) {
        vm.restarting = true;
        set_phase(vm, Phase::kPoweroff);
        return {};
    }
    if (vm.phase != Phase::kPoweroff) {
        give_up(vm, Exit::kVmFailed,
                fmt::format("VM \"{}\" ended ({}) in phase {}, before it had shown its evidence; {}", vm.name(),
                            name_of(reason), name_of(vm.phase), console_hint(vm)));
    }
    vm.over = true;
    return {};
}

void Session::hung(Vm &vm)
{
    const char *what = "";
    switch (vm.phase) {
    case Phase::kBootHypervisor:
    case Phase::kCreate:
    case Phase::kLaunch:
        what = "its SKINIT was not finished";
        break;
    case Phase::kBoot:
        what = "its agent did not report";
        break;
    case Phase::kEvidence:
        what = "its evidence did not come";
        break;
    case Phase::kPoweroff:
        what = "it did not end";
        break;
    }
    const std::string why = fmt::format("VM \"{}\" hung in phase {}: {} within {} s; {}", vm.name(), name_of(vm.phase),
                                        what, options_.timeouts[vm.phase].count(), console_hint(vm));
    vm.result.ended = "hung";
    give_up(vm, Exit::kTimeout, why);
    vm.result.failure = Failure{Exit::kTimeout, why};
}

Outcome<void> Session::step(Vm &vm)
{
    const mgmt::DomainStatus &status = status_.domains[vm.plan.domain];
    const auto state = static_cast<dt::State>(status.state);
    if (vm.phase == Phase::kLaunch && status.launch_count > 0) {
        vm.result.launched = true;
        set_phase(vm, Phase::kBoot);
        progress_.step(fmt::format("{}: launched, Linux is booting", vm.name()));
    }
    while (!vm.events.empty() && !vm.over) {
        const AgentEvent event = std::move(vm.events.front());
        vm.events.pop_front();
        if (auto done = handle(vm, event); !done) {
            return done;
        }
    }
    if (vm.over) {
        return {};
    }
    if (vm.restarting) {
        if (state == dt::State::kDirty) {
            return restart(vm);
        }
    } else if (state == dt::State::kStopping || state == dt::State::kDirty) {
        return ended(vm);
    }
    if (Clock::now() >= vm.deadline) {
        hung(vm);
    }
    return {};
}

Outcome<void> Session::watch_vms()
{
    auto next_status = Clock::now();
    for (;;) {
        const auto alive = std::find_if(vms_.begin(), vms_.end(), [](const auto &vm) { return !vm->over; });
        if (alive == vms_.end()) {
            return {};
        }
        if (auto failure = trouble((*alive)->phase)) {
            return tl::unexpected<Failure>(std::move(*failure));
        }
        if (Clock::now() >= next_status) {
            if (auto done = poll_status(); !done) {
                return done;
            }
            next_status = Clock::now() + kStatusInterval;
        }
        for (auto &vm : vms_) {
            if (!vm->over) {
                if (auto done = step(*vm); !done) {
                    return done;
                }
            }
        }
        loop_.turn(next_status);
    }
}

// ---- all together ----------------------------------------------------------------------------------------------------

Outcome<void> Session::drive()
{
    if (auto done = connect(); !done) {
        return done;
    }
    progress_.step("QEMU runs");
    if (auto done = execute(Phase::kBootHypervisor, "qmp_capabilities", nullptr); !done) {
        return tl::unexpected<Failure>(std::move(done.error()));
    }
    if (auto version = execute(Phase::kBootHypervisor, "query-version", nullptr)) {
        const nlohmann::json numbers = member(*version, "qemu");
        result_.qemu_version = fmt::format("{}.{}.{}", member(numbers, "major").dump(), member(numbers, "minor").dump(),
                                           member(numbers, "micro").dump());
        const std::string package = text_member(*version, "package");
        result_.qemu_version += (package.empty() ? "" : " ") + package;
    } else {
        return tl::unexpected<Failure>(std::move(version.error()));
    }
    auto done = wait(Phase::kBootHypervisor, Clock::now() + options_.timeouts[Phase::kBootHypervisor],
                     "the hypervisor did not report", [this] { return hello_.has_value(); });
    if (!done) {
        return done;
    }
    progress_.step(fmt::format("the hypervisor is up: {} cores for VMs, {} boot modules{}", hello_->cores,
                               hello_->modules, hello_->launched != 0 ? ", started by SKINIT" : ""));
    if (hello_->cores < vms_.size()) {
        return failed(Exit::kEnvironment, fmt::format("{} VMs need a core each, but the hypervisor sees {}; raise "
                                                      "cores in the machine file",
                                                      vms_.size(), hello_->cores));
    }
    std::vector<Vm *> all;
    for (auto &vm : vms_) {
        if (auto made = create(*vm); !made) {
            return made;
        }
        all.push_back(vm.get());
    }
    if (auto started = start(all); !started) {
        return started;
    }
    return watch_vms();
}

/// The counters of the domain table, while there is somebody to ask.
void Session::read_report()
{
    if (!qmp_->socket || qmp_->closed || !qemu_ || qemu_->ended()) {
        return;
    }
    const auto patience = Clock::now() + 2s;
    while (!result_.failure && Clock::now() < patience && poll_status()) {
        const auto stopping = [this](const auto &vm) {
            return status_.domains[vm->plan.domain].state == static_cast<std::uint32_t>(dt::State::kStopping);
        };
        if (std::none_of(vms_.begin(), vms_.end(), stopping)) {
            break;
        }
        loop_.turn(Clock::now() + 50ms);
    }
    auto text = execute(Phase::kPoweroff, "qom-get", {{"path", "/machine/peripheral/domains"}, {"property", "report"}});
    if (!text || !text->is_string()) {
        return;
    }
    auto report = nlohmann::json::parse(text->get<std::string>(), nullptr, false);
    if (report.is_object()) {
        result_.report = std::move(report);
    }
}

void Session::shut_down()
{
    if (!qemu_) {
        return;
    }
    if (qmp_->socket && !qmp_->closed && !qemu_->ended()) {
        send_all(qmp_->socket.get(), "{\"execute\":\"quit\"}\n", Clock::now() + 1s);
        qemu_->wait_until(Clock::now() + kQuitPatience);
    }
    qemu_->stop();
}

SessionResult Session::run(const std::vector<std::string> &command)
{
    if (options_.interrupt_fd >= 0) {
        loop_.watch(options_.interrupt_fd, [this] { interrupted_ = true; });
    }
    auto process = Process::start(command, options_.run_folder, options_.evidence / "qemu.log");
    if (!process) {
        result_.failure = std::move(process.error());
        return std::move(result_);
    }
    qemu_.emplace(std::move(*process));
    loop_.watch(qemu_->fd(), [this] { loop_.unwatch(qemu_->fd()); });
    if (auto done = drive(); !done) {
        result_.failure = std::move(done.error());
    }
    if (options_.interrupt_fd >= 0) {
        loop_.unwatch(options_.interrupt_fd);
    }
    if (!result_.failure || result_.failure->exit != Exit::kInterrupted) {
        read_report();
    }
    progress_.step("stopping QEMU");
    shut_down();
    return std::move(result_);
}

} // namespace banyan::tool
