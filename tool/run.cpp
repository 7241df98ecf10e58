// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/run.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <sys/signalfd.h>
#include <unistd.h>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "tool/evidence_folder.hpp"
#include "tool/machine.hpp"
#include "tool/plan.hpp"
#include "tool/platform_folder.hpp"
#include "tool/progress.hpp"
#include "tool/qemu_command.hpp"
#include "tool/report.hpp"
#include "tool/verdict.hpp"

namespace banyan::tool {

namespace {

namespace fs = std::filesystem;

/// SIGINT, SIGTERM and SIGHUP as a descriptor, for as long as it lives.
class StopSignals {
public:
    StopSignals()
    {
        sigset_t set;
        ::sigemptyset(&set);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
            ::sigaddset(&set, signal);
        }
        ::sigprocmask(SIG_BLOCK, &set, &before_);
        fd_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    }
    StopSignals(const StopSignals &) = delete;
    StopSignals &operator=(const StopSignals &) = delete;
    ~StopSignals()
    {
        signalfd_siginfo taken{};
        while (::read(fd_.get(), &taken, sizeof(taken)) == sizeof(taken)) {
            // Answered already; unblocked it would end the process with the work done.
        }
        ::sigprocmask(SIG_SETMASK, &before_, nullptr);
    }

    [[nodiscard]] int fd() const { return fd_.get(); }

private:
    sigset_t before_{};
    Fd fd_;
};

std::string sha256_of_file(const fs::path &file)
{
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    std::ifstream in(file, std::ios::binary);
    if (!in || !context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) {
        return {};
    }
    std::vector<char> piece(std::size_t{1} << 18);
    while (in) {
        in.read(piece.data(), static_cast<std::streamsize>(piece.size()));
        EVP_DigestUpdate(context.get(), piece.data(), static_cast<std::size_t>(in.gcount()));
    }
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    EVP_DigestFinal_ex(context.get(), digest.data(), &size);
    std::string hex;
    for (unsigned i = 0; i < size; ++i) {
        hex += fmt::format("{:02x}", digest[i]);
    }
    return hex;
}

Outcome<void> expect_program(const fs::path &file, const char *what)
{
    if (::access(file.c_str(), X_OK) == 0) {
        return {};
    }
    return failed(Exit::kEnvironment, fmt::format("cannot run {} {}: {}; build it with scripts/demo", what,
                                                  file.string(), std::strerror(errno)));
}

/// What a run needs, in the order of its making; what is made is undone in the opposite order.
class Run {
public:
    explicit Run(const RunRequest &request)
        : request_(request),
          places_(Places::of_executable()),
          progress_(STDERR_FILENO, ::isatty(STDERR_FILENO) == 1 && !request.quiet)
    {}

    Outcome<Exit> operator()()
    {
        const auto start = Clock::now();
        auto machine = read_machine(request_.machine_file, places_);
        if (!machine) {
            return tl::unexpected<Failure>(std::move(machine.error()));
        }
        if (auto done = choose_vms(*machine); !done) {
            return tl::unexpected<Failure>(std::move(done.error()));
        }
        auto plan = make_plan(*machine);
        if (!plan) {
            return tl::unexpected<Failure>(std::move(plan.error()));
        }
        const QemuOptions qemu{request_.qemu.value_or(places_.bin / "qemu-system-x86_64"),
                               places_.bin / "banyan-vtpm-engine", firmware_folders(places_), request_.qemu_arguments};
        for (const auto &[file, what] : {std::pair(qemu.qemu, "QEMU"), std::pair(qemu.engine, "the vTPM engine")}) {
            if (auto done = expect_program(file, what); !done) {
                return tl::unexpected<Failure>(std::move(done.error()));
            }
        }
        auto folder = RunFolder::make();
        if (!folder) {
            return tl::unexpected<Failure>(std::move(folder.error()));
        }
        const fs::path evidence =
            request_.evidence ? fs::absolute(*request_.evidence) : folder->path() / "evidence-of-this-run";
        if (auto done = prepare(*plan, folder->path(), evidence); !done) {
            return tl::unexpected<Failure>(std::move(done.error()));
        }

        SessionResult result;
        {
            const StopSignals signals;
            SessionOptions options;
            options.timeouts = request_.timeouts;
            options.task = request_.task;
            options.end = request_.end;
            options.run_folder = folder->path();
            options.evidence = evidence;
            options.interrupt_fd = signals.fd();
            auto session = Session::open(*plan, std::move(options), progress_);
            if (!session) {
                return tl::unexpected<Failure>(std::move(session.error()));
            }
            result = (*session)->run(qemu_command(*plan, qemu));
        }
        progress_.step("verifying");
        const std::vector<Verdict> verdicts = verify(plan->machine, result, evidence);
        progress_.clear();

        RunFacts facts;
        facts.qemu_path = qemu.qemu.string();
        facts.qemu_digest = sha256_of_file(qemu.qemu);
        facts.wall_seconds = std::chrono::duration<double>(Clock::now() - start).count();
        facts.host_clock = std::find(request_.qemu_arguments.begin(), request_.qemu_arguments.end(), "-icount") ==
                           request_.qemu_arguments.end();
        const RunReport report = finish(*plan, result, verdicts, facts, *folder, evidence);
        return report.exit;
    }

private:
    /// Only the first VMs of the file, when asked for. Their domains and addresses do not depend on the others.
    Outcome<void> choose_vms(Machine &machine) const
    {
        if (!request_.vms) {
            return {};
        }
        if (*request_.vms == 0 || *request_.vms > machine.vms.size()) {
            return failed(Exit::kUsage, fmt::format("--vms {} is outside 1 to {}, the VMs of {}", *request_.vms,
                                                    machine.vms.size(), request_.machine_file.string()));
        }
        machine.vms.resize(*request_.vms);
        machine.cores = static_cast<unsigned>(machine.vms.size() + 1);
        return {};
    }

    Outcome<void> prepare(const Plan &plan, const fs::path &folder, const fs::path &evidence)
    {
        if (auto done = prepare_evidence(evidence, plan); !done) {
            return done;
        }
        if (!fs::exists(plan.machine.platform_private)) {
            progress_.step(
                fmt::format("making a platform in {}", plan.machine.platform_private.parent_path().string()));
        }
        auto platform = hold_platform(plan.machine, plan.instances);
        if (!platform) {
            return tl::unexpected<Failure>(std::move(platform.error()));
        }
        platform_ = std::move(*platform);
        if (auto done = copy_chain(evidence, plan.machine.platform_public); !done) {
            return done;
        }
        return fill_run_folder(plan, folder, evidence);
    }

    /// From files alone, by the verifier's own code. Only evidence that is there is looked at.
    static std::vector<Verdict> verify(const Machine &machine, const SessionResult &result, const fs::path &evidence)
    {
        std::vector<Verdict> verdicts(result.vms.size());
        bool any = false;
        for (const VmResult &vm : result.vms) {
            any = any || vm.has_evidence;
        }
        if (any) {
            verdicts = verify_evidence(machine, evidence);
        }
        for (std::size_t i = 0; i < verdicts.size(); ++i) {
            const VmResult &vm = result.vms[i];
            if (vm.has_evidence) {
                continue;
            }
            verdicts[i] = {};
            verdicts[i].reason = vm.failure       ? vm.failure->text
                                 : result.failure ? result.failure->text
                                                  : "it gave no evidence";
        }
        return verdicts;
    }

    RunReport finish(const Plan &plan, const SessionResult &result, const std::vector<Verdict> &verdicts,
                     const RunFacts &facts, RunFolder &folder, const fs::path &evidence)
    {
        RunReport report = make_report(plan, result, verdicts, facts);
        const bool keep =
            request_.evidence.has_value() || (report.exit != Exit::kOk && report.exit != Exit::kInterrupted);
        if (keep) {
            report.json["evidence"] = evidence.string();
        }
        const std::string text = report.json.dump(2) + "\n";
        const auto note = [&](const Outcome<void> &done) {
            if (!done) {
                fmt::print(stderr, "banyan: {}\n", done.error().text);
                report.exit = fold(std::array{report.exit, done.error().exit});
            }
        };
        note(write_file(evidence / "owner/run.json", text));
        if (request_.json) {
            note(write_file(*request_.json, text));
        }
        fmt::print("{}", render_table(report.json));
        std::fflush(stdout);
        if (result.failure) {
            fmt::print(stderr, "banyan: {}\n", result.failure->text);
        }
        if (!request_.evidence && keep) {
            folder.keep();
            fmt::print(stderr, "banyan: consoles, logs and evidence are kept in {}\n", evidence.string());
        }
        return report;
    }

    const RunRequest &request_;
    Places places_;
    Progress progress_;
    Fd platform_; // held
};

} // namespace

Exit run(const RunRequest &request)
{
    Run run(request);
    auto exit = run();
    if (!exit) {
        fmt::print(stderr, "banyan: {}\n", exit.error().text);
        return exit.error().exit;
    }
    return *exit;
}

} // namespace banyan::tool
