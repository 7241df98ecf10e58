// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tool/agent.hpp"
#include "tool/io.hpp"
#include "tool/management.hpp"
#include "tool/plan.hpp"
#include "tool/process.hpp"
#include "tool/progress.hpp"
#include "tool/qmp.hpp"

// One life of the emulated server: from QEMU's start to the last VM's end. What comes over the sockets is not trusted.

namespace banyan::tool {

enum class Phase { kBootHypervisor, kCreate, kLaunch, kBoot, kEvidence, kPoweroff };
inline constexpr std::size_t kPhases = 6;
const char *name_of(Phase phase);
std::optional<Phase> phase_of(std::string_view name);

/// Generous: two slow cores with four VMs stay well below.
struct Timeouts {
    std::array<std::chrono::seconds, kPhases> of{std::chrono::seconds(120), std::chrono::seconds(120),
                                                 std::chrono::seconds(180), std::chrono::seconds(300),
                                                 std::chrono::seconds(300), std::chrono::seconds(120)};
    std::chrono::seconds &operator[](Phase phase) { return of[static_cast<std::size_t>(phase)]; }
    std::chrono::seconds operator[](Phase phase) const { return of[static_cast<std::size_t>(phase)]; }
};

/// How a VM is made to end after its evidence.
enum class End { kPoweroff, kReboot, kStop, kPanic, kHang };

struct SessionOptions {
    Timeouts timeouts;
    std::string task; // "", "seal" or "unseal"
    End end = End::kPoweroff;
    std::filesystem::path run_folder;
    std::filesystem::path evidence;
    int interrupt_fd = -1; // readable when the user wants to stop
};

struct VmResult {
    std::string name;
    bool launched = false;
    bool has_evidence = false;
    std::string ended;  // "poweroff", "reboot", "shutdown", "stopped", "hung"; empty when it never started
    std::string secret; // with a task: "sealed DIGEST", "unsealed DIGEST", "refused WHY", as the VM says
    std::optional<Failure> failure;
};

struct SessionResult {
    std::vector<VmResult> vms;
    nlohmann::json report;          // of the domain table, null if it could not be read
    std::string qemu_version;       // empty if not known
    std::optional<Failure> failure; // of the whole run
};

class Session {
public:
    /// Listens on the sockets that QEMU will connect to.
    static Outcome<std::unique_ptr<Session>> open(const Plan &plan, SessionOptions options, Progress &progress);
    ~Session();

    /// Runs QEMU by `command` until every VM has ended or the run has failed. Nothing of it runs afterwards.
    SessionResult run(const std::vector<std::string> &command);

private:
    struct Peer;
    struct Vm;

    Session(const Plan &plan, SessionOptions options, Progress &progress);

    Outcome<void> drive();
    Outcome<void> connect();
    Outcome<void> create(Vm &vm);
    Outcome<void> start(const std::vector<Vm *> &vms);
    Outcome<void> watch_vms();
    Outcome<void> poll_status();
    Outcome<void> step(Vm &vm);
    Outcome<void> handle(Vm &vm, const AgentEvent &event);
    Outcome<void> keep_evidence(Vm &vm, const AgentEvent &event);
    Outcome<void> request_end(Vm &vm);
    Outcome<void> ended(Vm &vm);
    Outcome<void> restart(Vm &vm);
    void hung(Vm &vm);
    void give_up(Vm &vm, Exit exit, std::string why);
    void dismiss(Vm &vm, std::string why);
    void read_report();
    void shut_down();

    Outcome<void> wait(Phase phase, Clock::time_point until, const std::string &what,
                       const std::function<bool()> &done);
    std::optional<Failure> trouble(Phase phase);
    Failure qemu_ended(Phase phase, int status);
    Outcome<std::vector<std::uint8_t>> request(Phase phase, mgmt::Type type, std::vector<std::uint8_t> payload,
                                               const std::string &what);
    Outcome<nlohmann::json> execute(Phase phase, const std::string &command, const nlohmann::json &arguments);
    void set_phase(Vm &vm, Phase phase);
    [[nodiscard]] std::string console_hint(const Vm &vm) const;

    const Plan &plan_;
    SessionOptions options_;
    Progress &progress_;
    Loop loop_;
    std::optional<Process> qemu_;
    std::unique_ptr<Peer> qmp_;
    std::unique_ptr<Peer> management_;
    QmpReader qmp_reader_;
    FrameReader frames_;
    std::string frames_broken_;
    std::deque<Frame> responses_;
    std::optional<mgmt::HelloPayload> hello_;
    std::uint32_t sequence_ = 0;
    std::uint32_t qmp_id_ = 0;
    bool interrupted_ = false;
    mgmt::StatusResponse status_{};
    std::vector<std::unique_ptr<Vm>> vms_;
    SessionResult result_;
};

} // namespace banyan::tool
