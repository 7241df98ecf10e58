// SPDX-License-Identifier: GPL-2.0-or-later
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/reboot.h>
#include <sys/time.h>
#include <unistd.h>

#include "guest/agent/evidence.hpp"
#include "guest/agent/request.hpp"
#include "guest/agent/system.hpp"

// The agent: process 1 of the guest once /init has prepared the system. It answers the owner's requests on a
// virtio-serial port; specification: docs/spec/agent.md. It never ends: process 1 must not.

namespace banyan::agent {
namespace {

constexpr const char *kPortName = "banyan.evidence";
constexpr unsigned kPortTimeoutMs = 120'000;
constexpr std::size_t kMaxLine = 512;

void say(const std::string &line)
{
    std::printf("banyan-agent: %s\n", line.c_str());
    std::fflush(stdout);
}

class Port {
public:
    explicit Port(const std::string &path) : fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC))
    {
        if (fd_ < 0) {
            throw Failed("open " + path + ": " + std::strerror(errno));
        }
    }

    void send(const std::string &bytes)
    {
        std::size_t sent = 0;
        while (sent < bytes.size()) {
            const ssize_t count = ::write(fd_, bytes.data() + sent, bytes.size() - sent);
            if (count < 0 && errno != EINTR && errno != EAGAIN) {
                throw Failed(std::string("write to the port: ") + std::strerror(errno));
            }
            if (count > 0) {
                sent += static_cast<std::size_t>(count);
            }
        }
    }

    std::string receive_line()
    {
        std::string line;
        for (;;) {
            char c = 0;
            const ssize_t count = ::read(fd_, &c, 1);
            if (count <= 0) { // nobody at the other end yet, or no longer
                ::usleep(10000);
                continue;
            }
            if (c == '\n') {
                return line;
            }
            if (line.size() < kMaxLine) {
                line += c;
            }
        }
    }

private:
    int fd_;
};

std::string one_line(std::string text)
{
    for (char &c : text) {
        if (c == '\n' || c == '\r') {
            c = ' ';
        }
    }
    return text.substr(0, kMaxLine - 16);
}

void set_clock(const OwnPage &own_page)
{
    if (own_page.present()) {
        const timeval now{static_cast<time_t>(own_page.wall_time()), 0};
        ::settimeofday(&now, nullptr);
    }
}

void attest(Port &port, const Request &request, OwnPage &own_page)
{
    try {
        const std::string archive = collect_evidence(request, own_page);
        port.send("evidence " + std::to_string(archive.size()) + "\n");
        port.send(archive);
        port.send("done\n");
        say("evidence of " + std::to_string(archive.size()) + " bytes handed over");
    } catch (const Failed &failure) {
        const std::string line = one_line(failure.what());
        port.send("failed " + line + "\n");
        say("failed: " + line);
    }
}

[[noreturn]] void end(int how)
{
    ::sync();
    ::reboot(how);
    for (;;) {
        ::pause();
    }
}

void serve(Port &port, OwnPage &own_page)
{
    for (const std::string &line : describe_tpms()) {
        say(line);
    }
    port.send("ready\n");
    say("ready");
    for (;;) {
        const std::string line = port.receive_line();
        const auto request = parse_request(line);
        if (!request) {
            port.send("failed not understood: " + one_line(line.substr(0, 64)) + "\n");
            continue;
        }
        switch (request->verb) {
        case Request::Verb::kAttest:
            attest(port, *request, own_page);
            break;
        case Request::Verb::kPoweroff:
            say("poweroff");
            end(RB_POWER_OFF);
        case Request::Verb::kReboot:
            say("reboot");
            end(RB_AUTOBOOT);
        case Request::Verb::kPanic:
            say("panic");
            write_file("/proc/sysrq-trigger", "c");
            break;
        case Request::Verb::kHang:
            say("hang");
            for (;;) {
                ::pause();
            }
        }
    }
}

} // namespace
} // namespace banyan::agent

int main()
{
    using namespace banyan::agent;
    ::setenv("TPM2TOOLS_TCTI", "device:/dev/tpmrm0", 1);
    OwnPage own_page;
    set_clock(own_page);
    try {
        Port port(find_port(kPortName, kPortTimeoutMs));
        serve(port, own_page);
    } catch (const Failed &failure) {
        say(std::string("stopped: ") + failure.what());
    }
    for (;;) {
        ::pause();
    }
}
