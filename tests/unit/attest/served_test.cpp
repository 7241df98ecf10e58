// SPDX-License-Identifier: GPL-2.0-or-later
// A launch that a client of `banyan vtpm serve` forges: the hash commands with a genuine loader, the genuine
// extensions, a quote by the instance's own IAK. Everything in it is right but what stands behind the TPM.
#include <array>
#include <csignal>
#include <fcntl.h>
#include <spawn.h>
#include <stdexcept>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "banyan/arch/boot_info.hpp"
#include "tests/unit/attest/machine.hpp"
#include "vtpm/chip/tpm_header.hpp"
#include "vtpm/serve/request.hpp"
#include "vtpm/serve/swtpm_protocol.hpp"

namespace banyan::attest::testing {

namespace fs = std::filesystem;
using vtpm::swtpm::Code;

class Socket {
public:
    explicit Socket(const fs::path &path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))
    {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.string().copy(address.sun_path, sizeof(address.sun_path) - 1);
        if (::connect(fd_, reinterpret_cast<const sockaddr *>(&address), sizeof(address)) != 0) {
            throw std::runtime_error("cannot connect to " + path.string());
        }
    }
    ~Socket() { ::close(fd_); }
    Socket(const Socket &) = delete;
    Socket &operator=(const Socket &) = delete;

    void send(const Bytes &bytes) const
    {
        if (::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) {
            throw std::runtime_error("cannot send to the server");
        }
    }
    [[nodiscard]] Bytes receive(std::size_t size) const
    {
        Bytes bytes(size);
        if (size != 0 && ::recv(fd_, bytes.data(), size, MSG_WAITALL) != static_cast<ssize_t>(size)) {
            throw std::runtime_error("the server has closed");
        }
        return bytes;
    }

private:
    int fd_;
};

/// A TPM of a served instance, driven by both of its channels.
class ServedTpm : public TpmCommands {
public:
    ServedTpm(const fs::path &sockets, unsigned instance)
        : data_(sockets / ("vtpm" + std::to_string(instance))),
          control_(sockets / ("vtpm" + std::to_string(instance) + ".ctrl"))
    {}

    std::uint32_t control(Code code, const Bytes &fields = {})
    {
        Bytes request;
        vtpm::append_be32(request, static_cast<std::uint32_t>(code));
        request.insert(request.end(), fields.begin(), fields.end());
        control_.send(request);
        return vtpm::load_be32(control_.receive(4), 0);
    }

    Bytes execute(std::uint8_t locality, const Bytes &command) override
    {
        EXPECT_EQ(control(Code::kSetLocality, {locality}), 0U);
        data_.send(command);
        Bytes response = data_.receive(vtpm::kTpmHeaderSize);
        const Bytes rest = data_.receive(vtpm::load_be32(response, vtpm::kTpmSizeAt) - response.size());
        response.insert(response.end(), rest.begin(), rest.end());
        return response;
    }

    void hash_sequence(const Bytes &data)
    {
        Bytes sized;
        vtpm::append_be32(sized, static_cast<std::uint32_t>(data.size()));
        sized.insert(sized.end(), data.begin(), data.end());
        EXPECT_EQ(control(Code::kHashStart), 0U);
        EXPECT_EQ(control(Code::kHashData, sized), 0U);
        EXPECT_EQ(control(Code::kHashEnd), 0U);
    }

private:
    Socket data_;
    Socket control_;
};

/// `banyan vtpm serve`, until this object ends.
class ServeProcess {
public:
    explicit ServeProcess(std::vector<std::string> options)
    {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) {
            throw std::runtime_error("no pipe");
        }
        options.insert(options.begin(), {BANYAN_COMMAND, "vtpm", "serve", "--json"});
        std::vector<char *> arguments;
        for (std::string &one : options) {
            arguments.push_back(one.data());
        }
        arguments.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
        const int error = ::posix_spawn(&pid_, BANYAN_COMMAND, &actions, nullptr, arguments.data(), environ);
        ::posix_spawn_file_actions_destroy(&actions);
        ::close(ends[1]);
        char byte = 0;
        while (error == 0 && ::read(ends[0], &byte, 1) == 1 && byte != '\n') { // the line says that it listens
        }
        ::close(ends[0]);
        if (byte != '\n') {
            throw std::runtime_error("the server did not come up");
        }
    }
    ~ServeProcess()
    {
        if (pid_ > 1) {
            ::kill(pid_, SIGTERM);
            ::waitpid(pid_, nullptr, 0);
        }
    }
    ServeProcess(const ServeProcess &) = delete;
    ServeProcess &operator=(const ServeProcess &) = delete;

private:
    pid_t pid_ = -1;
};

class Served : public ::testing::Test {
protected:
    Served()
    {
        vm_.name = "alpha";
        vm_.domain = vm_.instance = 1;
        vm_.descriptor.fill(1);
        vm_.hypervisor.fill(0x44);
        const auto item = [](unsigned pcr, const char *text, std::uint8_t fill) {
            return item_of_bytes(pcr, boot::kEventIpl, text, text, Bytes(500, fill));
        };
        vm_.items = {item_of_bytes(17, boot::kEventSkinit, boot::kTextSkinit, "loader.slb", slb_),
                     item(17, boot::kTextKernel, 2), item(18, boot::kTextBootInfo, 5)};
    }

    [[nodiscard]] ServeProcess serve(std::vector<std::string> options)
    {
        options.insert(options.end(), {"--instances", "2", "--dir", sockets_.string(), "--state", state_.string(),
                                       "--manufacturer", (machine_.private_folder() / "ca").string()});
        return ServeProcess(std::move(options));
    }

    /// What the forger hands in, with a genuine report of the machine over the fresh nonce beside it.
    EvidenceFiles forge(const Machine &signs_report)
    {
        const VmRun run = plan_run(machine_, vm_, slb_, nonce_);
        ServedTpm tpm(sockets_, vm_.instance);
        EXPECT_EQ(tpm.control(Code::kInit, Bytes(4)), 0U);
        tpm.startup(0);
        tpm.hash_sequence(slb_);
        for (const Extension &one : run.scenario.after_launch) {
            tpm.extend(2, one.pcr, one.digests);
        }
        tpm.extend(0, 10, boot_aggregate_as_debian_6_1());
        Report report = run.report;
        if (&signs_report != &machine_) {
            report = signs_report.facts(vm_, ReportKind::kDomain, nonce_);
        }
        return evidence_of(collect_outcome(tpm, nonce_, run.scenario.selections), run, signs_report.sign(report));
    }

    static void expect_refused(const Verdict &verdict, Link link, const std::string &words)
    {
        EXPECT_FALSE(verdict.attested);
        EXPECT_STREQ(name_of(verdict.broken), name_of(link)) << verdict.reason;
        EXPECT_NE(verdict.reason.find(words), std::string::npos) << verdict.reason;
        std::printf("    %s: %s\n", name_of(verdict.broken), verdict.reason.c_str());
    }

    TemporaryFolder folder_;
    Machine machine_{Machine::make(folder_.path() / "machine", 2)};
    fs::path sockets_ = folder_.path() / "sockets";
    fs::path state_ = folder_.path() / "served";
    Bytes slb_ = Bytes(9000, 0x5a);
    Bytes nonce_ = Bytes(32, 0xa5);
    VmReference vm_;
};

TEST_F(Served, AForgedLaunchHasTheRightPcrsAndIsRefusedForItsClass)
{
    const ServeProcess server = serve({"--drtm-by-client"});
    const Machine served(state_ / "private", state_ / "public");
    const EvidenceFiles files = forge(machine_);

    // By the owner of the machine, whose chain has no authority for such a TPM.
    const VmRun run = plan_run(machine_, vm_, slb_, nonce_);
    OwnerRecord owner = owner_record(machine_, run);
    expect_refused(verify_vm(files, vm_, machine_.anchors(), owner), Link::kChain, "does not lead to a trusted root");

    // One root certifies both classes, and the owner's chain has both authorities.
    const Bytes served_chain = owner_record(served, run).chain_pem;
    const auto certificates = take(Certificate::list_from_pem(served_chain));
    const std::string authority = certificates.front().pem();
    ASSERT_TRUE(certificates.front().has_role(Role::kIntermediate));
    owner.chain_pem.insert(owner.chain_pem.end(), authority.begin(), authority.end());
    expect_refused(verify_vm(files, vm_, machine_.anchors(), owner), Link::kClass,
                   "the class of its issuer is \"served\", expected \"machine\"");

    // All of it of the served platform, report and receipt too.
    const VmRun all_served = plan_run(served, vm_, slb_, nonce_);
    expect_refused(verify_vm(forge(served), vm_, machine_.anchors(), owner_record(served, all_served)), Link::kClass,
                   "the class of its issuer is \"served\", expected \"machine\"");

    // The PCRs are those of a launch: without the class there would be nothing to refuse.
    const PcrFile pcrs = take(parse_pcr_file(files.pcrs));
    const Scenario honest = [&] {
        Scenario scenario = run.scenario;
        scenario.permanent = machine_.permanent(vm_.instance);
        return scenario;
    }();
    EXPECT_EQ(pcrs.values, take(parse_pcr_file(testing::run(honest).pcrs)).values);
}

TEST_F(Served, WithoutTheSwitchNoClientLaunches)
{
    const ServeProcess server = serve({});
    ServedTpm tpm(sockets_, 1);
    ASSERT_EQ(tpm.control(Code::kInit, Bytes(4)), 0U);
    tpm.startup(0);
    EXPECT_EQ(tpm.control(Code::kHashStart), static_cast<std::uint32_t>(vtpm::swtpm::Result::kBadOrdinal));
    EXPECT_EQ(tpm.pcr_read(Bank::kSha256, 17), Bytes(32, 0xff));
}

} // namespace banyan::attest::testing
