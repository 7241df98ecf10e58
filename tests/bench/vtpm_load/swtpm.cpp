// SPDX-License-Identifier: GPL-2.0-or-later
#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/vtpm_load/commands.hpp"
#include "tests/bench/vtpm_load/side.hpp"

namespace banyan::bench {
namespace {

constexpr int kDataFd = 3;

class Swtpm final : public Side {
public:
    Swtpm(std::string folder, unsigned count) : folder_(std::move(folder)), each_(count) {}
    ~Swtpm() override
    {
        for (const One &one : each_) {
            if (one.child > 1) {
                ::kill(one.child, SIGKILL);
                ::waitpid(one.child, nullptr, 0);
            }
        }
    }
    Swtpm(const Swtpm &) = delete;
    Swtpm &operator=(const Swtpm &) = delete;

    void start(unsigned index) override
    {
        One &one = each_[index];
        const std::string folder = folder_ + "/" + std::to_string(index);
        std::filesystem::create_directories(folder);
        int ends[2];
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
            give_up("no socket pair for swtpm");
        }
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        const int far = ::fcntl(ends[1], F_DUPFD_CLOEXEC, 16);
        ::posix_spawn_file_actions_adddup2(&actions, far, kDataFd);
        std::string state = "dir=" + folder;
        std::array<std::string, 8> words{"swtpm",      "socket", "--tpm2",  "--fd=3",
                                         "--tpmstate", state,    "--flags", "not-need-init,startup-clear"};
        std::array<char *, 9> argv{};
        for (std::size_t i = 0; i < words.size(); ++i) {
            argv[i] = words[i].data();
        }
        if (::posix_spawnp(&one.child, "swtpm", &actions, nullptr, argv.data(), environ) != 0) {
            give_up("swtpm cannot be started (package swtpm)");
        }
        ::posix_spawn_file_actions_destroy(&actions);
        ::close(far);
        ::close(ends[1]);
        one.socket = ends[0];
        if (code_of(command(index, get_random(8))) != 0) {
            give_up("swtpm does not answer");
        }
    }

    const Bytes &command(unsigned index, const Bytes &bytes) override
    {
        One &one = each_[index];
        if (::write(one.socket, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
            give_up("swtpm has gone");
        }
        one.answer.resize(kHeader); // QEMU too reads the header first
        read_all(one.socket, one.answer.data(), kHeader);
        const std::size_t size = size_of(one.answer);
        if (size < kHeader || size > 4096) {
            give_up("swtpm speaks nonsense");
        }
        one.answer.resize(size);
        read_all(one.socket, one.answer.data() + kHeader, size - kHeader);
        return one.answer;
    }

private:
    struct One {
        pid_t child = -1;
        int socket = -1;
        Bytes answer;
    };

    static void read_all(int socket, std::uint8_t *at, std::size_t size)
    {
        while (size > 0) {
            const ssize_t got = ::read(socket, at, size);
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got <= 0) {
                give_up("swtpm has ended");
            }
            at += got;
            size -= static_cast<std::size_t>(got);
        }
    }

    std::string folder_;
    std::vector<One> each_;
};

} // namespace

std::unique_ptr<Side> make_swtpm(const std::string &state_folder, unsigned count)
{
    return std::make_unique<Swtpm>(state_folder, count);
}

} // namespace banyan::bench
