// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/agent/system.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "banyan/arch/domain_table.hpp"

namespace banyan::agent {
namespace {

class Fd {
public:
    explicit Fd(int fd) : fd_(fd) {}
    ~Fd()
    {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }
    Fd(const Fd &) = delete;
    Fd &operator=(const Fd &) = delete;
    int get() const { return fd_; }

private:
    int fd_;
};

std::string reason_of_errno()
{
    return std::strerror(errno);
}

/// Folder that the child changes into: posix_spawn's own way is newer than some C libraries.
int spawn(const std::string &folder, const std::vector<std::string> &arguments, int diagnostics)
{
    std::vector<char *> argv;
    for (const std::string &argument : arguments) {
        argv.push_back(const_cast<char *>(argument.c_str()));
    }
    argv.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, diagnostics, 1);
    posix_spawn_file_actions_adddup2(&actions, diagnostics, 2);
    pid_t child = 0;
    const int error = posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    errno = error;
    return error == 0 ? child : -1;
}

/// The last line that says something; tpm2-tools put the cause first and "Unable to run" last, so that one is skipped.
std::string last_words(const std::string &text)
{
    std::string best;
    std::size_t at = 0;
    while (at < text.size()) {
        std::size_t end = text.find('\n', at);
        if (end == std::string::npos) {
            end = text.size();
        }
        const std::string line = text.substr(at, end - at);
        if (line.starts_with("ERROR:") && line.find("Unable to run") == std::string::npos) {
            best = line;
        } else if (best.empty() && !line.empty()) {
            best = line;
        }
        at = end + 1;
    }
    return best;
}

} // namespace

std::optional<std::string> read_if_there(const std::string &path)
{
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) {
        return std::nullopt;
    }
    std::string content;
    char buffer[16384];
    for (;;) {
        const ssize_t got = ::read(fd.get(), buffer, sizeof(buffer));
        if (got < 0) {
            return std::nullopt;
        }
        if (got == 0) {
            return content;
        }
        content.append(buffer, static_cast<std::size_t>(got));
    }
}

std::string read_file(const std::string &path)
{
    auto content = read_if_there(path);
    if (!content) {
        throw Failed("read " + path + ": " + reason_of_errno());
    }
    return *std::move(content);
}

void write_file(const std::string &path, const std::string &content)
{
    const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (fd.get() < 0 || ::write(fd.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
        throw Failed("write " + path + ": " + reason_of_errno());
    }
}

bool try_run(const std::string &folder, const std::vector<std::string> &arguments, std::string &reason)
{
    const std::string log = folder + "/.diagnostics";
    const Fd diagnostics(::open(log.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    const int child = diagnostics.get() < 0 ? -1 : spawn(folder, arguments, diagnostics.get());
    if (child < 0) {
        reason = "start: " + reason_of_errno();
        return false;
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return true;
    }
    reason = last_words(read_if_there(log).value_or(""));
    if (reason.empty()) {
        reason = WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                     : "exit status " + std::to_string(WEXITSTATUS(status));
    }
    return false;
}

void run(const std::string &folder, const std::vector<std::string> &arguments)
{
    std::string reason;
    if (!try_run(folder, arguments, reason)) {
        const std::string &program = arguments.front();
        throw Failed(program.substr(program.rfind('/') + 1) + ": " + reason);
    }
}

std::string random_bytes(std::size_t count)
{
    std::string bytes(count, '\0');
    if (::getrandom(bytes.data(), count, 0) != static_cast<ssize_t>(count)) {
        throw Failed("get random bytes: " + reason_of_errno());
    }
    return bytes;
}

std::string find_port(const std::string &name, unsigned timeout_ms)
{
    constexpr unsigned kStepMs = 5;
    const std::string ports = "/sys/class/virtio-ports";
    for (unsigned waited = 0; waited <= timeout_ms; waited += kStepMs) {
        if (DIR *folder = ::opendir(ports.c_str())) {
            std::string found;
            while (const dirent *entry = ::readdir(folder)) {
                const std::string other = read_if_there(ports + "/" + entry->d_name + "/name").value_or("");
                if (other == name + "\n" || other.starts_with(name + ".")) {
                    found = entry->d_name;
                }
            }
            ::closedir(folder);
            if (!found.empty() && ::access(("/dev/" + found).c_str(), R_OK | W_OK) == 0) {
                return "/dev/" + found;
            }
        }
        ::usleep(kStepMs * 1000);
    }
    throw Failed("find the virtio-serial port " + name + ": not there");
}

OwnPage::OwnPage()
{
    const Fd memory(::open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC));
    if (memory.get() < 0) {
        return;
    }
    void *const mapped = ::mmap(nullptr, dt::kOwnPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(),
                                static_cast<off_t>(dt::kOwnPageBase));
    if (mapped == MAP_FAILED) {
        return;
    }
    page_ = static_cast<volatile std::uint32_t *>(mapped);
    if (read(dt::own::kId) != dt::kOwnId || read(dt::own::kVersion) != 1) {
        ::munmap(mapped, dt::kOwnPageSize);
        page_ = nullptr;
    }
}

OwnPage::~OwnPage()
{
    if (page_ != nullptr) {
        ::munmap(const_cast<std::uint32_t *>(page_), dt::kOwnPageSize);
    }
}

std::uint64_t OwnPage::wall_time() const
{
    return *reinterpret_cast<const volatile std::uint64_t *>(page_ + dt::own::kWallTime / 4);
}

std::string OwnPage::report(const std::string &nonce)
{
    constexpr unsigned kTimeoutMs = 20000;
    if (!present()) {
        throw Failed("domain report: this machine has no domain table");
    }
    for (std::uint32_t i = 0; i < dt::own::kNonceMax; i += 4) {
        std::uint32_t word = 0;
        if (i < nonce.size()) {
            std::memcpy(&word, nonce.data() + i, std::min<std::size_t>(4, nonce.size() - i));
        }
        write(dt::own::kNonce + i, word);
    }
    write(dt::own::kReportStart, static_cast<std::uint32_t>(nonce.size()));
    for (unsigned waited = 0; waited < kTimeoutMs; ++waited) {
        const auto status = static_cast<dt::ReportStatus>(read(dt::own::kReportStatus));
        if (status == dt::ReportStatus::kReady) {
            const std::uint32_t size = read(dt::own::kReportSize);
            if (size > dt::own::kReportMax) {
                throw Failed("domain report: its size is " + std::to_string(size));
            }
            std::string report;
            for (std::uint32_t i = 0; i < size; i += 4) {
                const std::uint32_t word = read(dt::own::kReportData + i);
                report.append(reinterpret_cast<const char *>(&word), std::min<std::uint32_t>(4, size - i));
            }
            return report;
        }
        if (status != dt::ReportStatus::kBusy) {
            throw Failed("domain report: status " + std::to_string(static_cast<std::uint32_t>(status)));
        }
        ::usleep(1000);
    }
    throw Failed("domain report: not ready after " + std::to_string(kTimeoutMs / 1000) + " s");
}

} // namespace banyan::agent
