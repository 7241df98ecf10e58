// SPDX-License-Identifier: GPL-2.0-or-later
// The only program of a small Linux: commands come over /dev/ttyS0 a line at a time, each gets one line back.
//
//   list                        N, and for each /dev/tpmN the address of its registers and its driver's name
//   extend N PCR HEX            PCR_Extend of a SHA-256 digest through /dev/tpmN; TPM_RC
//   read N PCR                  the SHA-256 PCR in hex
//   random N COUNT              GetRandom, what came in hex
//   banks N                     the PCR banks that the driver found, in the order of their names
//   make N                      makes an RSA key and flushes it: nanoseconds that its making took
//   interrupts                  for each interrupt that TPMs have: COUNT,CONTROLLER,TYPE,DRIVERS...
//   log N                       the firmware's event log of /dev/tpmN in hex, or a dash
//   time N COUNT CORE           COUNT PCR_Extends (PCR 16) on a core: nanoseconds each, in order
//   timer COUNT CORE            COUNT sleeps of a millisecond on a core: nanoseconds late each, in order
//   flood N extend|rsa|none CORE...   a process for each core that sends such commands without end; none: computes
//   sent                        how many commands they have had so far
//   calm                        ends them: how many commands they have had
//   off                         powers the machine off
//
// "error WHY" says what could not be done. Times are CLOCK_MONOTONIC.
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <functional>
#include <sched.h>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <vector>

#include "guest/tpmprobe/commands.hpp"

namespace {

using namespace banyan::tpmprobe;
using Words = std::vector<std::string>;

constexpr const char *kUsage = "error usage";
constexpr std::size_t kCountMax = 1'000'000;
constexpr std::uint32_t kBenchPcr = 16;
constexpr std::size_t kRandomMax = 64; // TPM2B_DIGEST of SHA-512

std::string error(const std::string &what)
{
    return "error " + what + ": " + std::strerror(errno);
}

std::int64_t now_ns()
{
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

bool number(const std::string &word, std::size_t most, std::size_t &value)
{
    const auto [end, why] = std::from_chars(word.data(), word.data() + word.size(), value);
    return why == std::errc{} && end == word.data() + word.size() && value <= most;
}

std::string hex(std::span<const std::uint8_t> bytes)
{
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (const std::uint8_t byte : bytes) {
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    return text;
}

Words words_of(const char *line)
{
    Words words(1);
    for (; *line != '\0'; ++line) {
        if (*line == ' ' || *line == '\n' || *line == '\r') {
            if (!words.back().empty()) {
                words.emplace_back();
            }
        } else {
            words.back() += *line;
        }
    }
    words.pop_back();
    return words;
}

bool run_on(std::size_t core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    return ::sched_setaffinity(0, sizeof(set), &set) == 0;
}

/// One open of a TPM's device.
class Tpm {
public:
    explicit Tpm(const std::string &path) : fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC)) {}
    ~Tpm()
    {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }
    Tpm(const Tpm &) = delete;
    Tpm &operator=(const Tpm &) = delete;

    [[nodiscard]] bool open() const { return fd_ >= 0; }
    /// Empty: the driver failed, errno says why.
    [[nodiscard]] std::span<const std::uint8_t> command(const Bytes &bytes)
    {
        if (::write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
            return {};
        }
        const ssize_t size = ::read(fd_, response_.data(), response_.size());
        return {response_.data(), size < 0 ? 0 : static_cast<std::size_t>(size)};
    }

private:
    int fd_;
    std::array<std::uint8_t, 4096> response_{};
};

std::string device(std::size_t n, const char *kind = "tpm")
{
    return std::string("/dev/") + kind + std::to_string(n);
}

/// Opens TPM N, the second word of a command of `count` words, for `use`; or says what is wrong.
std::string with_tpm(const Words &words, std::size_t count, const std::function<std::string(Tpm &)> &use)
{
    std::size_t n = 0;
    if (words.size() != count || !number(words[1], 65535, n)) {
        return kUsage;
    }
    Tpm tpm(device(n));
    return tpm.open() ? use(tpm) : error(device(n));
}

std::string link_of(const std::string &path)
{
    std::array<char, PATH_MAX> target{};
    const ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
    const std::string_view text(target.data(), size < 0 ? 0 : static_cast<std::size_t>(size));
    return std::string(text.substr(text.rfind('/') + 1));
}

/// Where the registers of a platform device lie, as the kernel has claimed them: "fed40000-fed44fff : MSFT0101:00 …".
std::string registers_of(const std::string &name)
{
    std::FILE *file = std::fopen("/proc/iomem", "r");
    std::array<char, 256> line{};
    std::string found = "?";
    while (file != nullptr && std::fgets(line.data(), line.size(), file) != nullptr) {
        const std::string_view text(line.data());
        if (text.find(" : " + name) != std::string_view::npos) {
            const std::size_t begin = text.find_first_not_of(' ');
            found = text.substr(begin, text.find('-') - begin);
            break;
        }
    }
    if (file != nullptr) {
        std::fclose(file);
    }
    return found;
}

std::string list(const Words & /*words*/)
{
    std::string text;
    std::size_t count = 0;
    for (; ::access(device(count).c_str(), F_OK) == 0; ++count) {
        const std::string sys = "/sys/class/tpm/tpm" + std::to_string(count) + "/device";
        text += " " + registers_of(link_of(sys)) + "," + link_of(sys + "/driver");
    }
    return std::to_string(count) + text;
}

std::string extend(const Words &words)
{
    return with_tpm(words, 4, [&](Tpm &tpm) -> std::string {
        std::size_t pcr = 0;
        std::array<std::uint8_t, kSha256Size> digest{};
        if (!number(words[2], 23, pcr) || words[3].size() != 2 * kSha256Size) {
            return kUsage;
        }
        for (std::size_t i = 0; i < digest.size(); ++i) {
            const char *at = words[3].data() + 2 * i;
            if (std::from_chars(at, at + 2, digest[i], 16).ptr != at + 2) {
                return kUsage;
            }
        }
        const auto response = tpm.command(pcr_extend(static_cast<std::uint32_t>(pcr), digest));
        return response.empty() ? error("/dev/tpm" + words[1]) : std::to_string(result_of(response));
    });
}

/// In hex, what a command with one number of at most `most` brings; `take` finds it in the response.
std::string ask(const Words &words, std::size_t most, Bytes (*command)(std::size_t),
                std::span<const std::uint8_t> (*take)(std::span<const std::uint8_t>), const char *nothing)
{
    return with_tpm(words, 3, [&](Tpm &tpm) -> std::string {
        std::size_t value = 0;
        if (!number(words[2], most, value)) {
            return kUsage;
        }
        const std::string text = hex(take(tpm.command(command(value))));
        return text.empty() ? nothing : text;
    });
}

std::string read_pcr(const Words &words)
{
    return ask(
        words, 23, [](std::size_t pcr) { return pcr_read(static_cast<std::uint32_t>(pcr)); }, digest_of,
        "error no digest");
}

std::string random_bytes(const Words &words)
{
    return ask(
        words, kRandomMax, [](std::size_t count) { return get_random(static_cast<std::uint16_t>(count)); }, random_of,
        "error no bytes");
}

std::string banks(const Words &words)
{
    std::size_t n = 0;
    if (words.size() != 2 || !number(words[1], 65535, n)) {
        return kUsage;
    }
    DIR *dir = ::opendir(("/sys/class/tpm/tpm" + std::to_string(n)).c_str());
    if (dir == nullptr) {
        return error(device(n));
    }
    std::vector<std::string> found;
    while (const dirent *entry = ::readdir(dir)) {
        const std::string_view name(entry->d_name);
        if (name.starts_with("pcr-")) {
            found.emplace_back(name.substr(4));
        }
    }
    ::closedir(dir);
    std::sort(found.begin(), found.end());
    std::string text;
    for (const std::string &name : found) {
        text += (text.empty() ? "" : " ") + name;
    }
    return text.empty() ? "error no bank" : text;
}

std::string make_key(const Words &words)
{
    return with_tpm(words, 2, [](Tpm &tpm) -> std::string {
        const std::int64_t begin = now_ns();
        const std::uint32_t handle = handle_of(tpm.command(create_primary_rsa()));
        const std::int64_t took = now_ns() - begin;
        if (handle == 0 || result_of(tpm.command(flush(handle))) != 0) {
            return "error no key";
        }
        return std::to_string(took);
    });
}

/// Lines as "  5:   12   0   IO-APIC   5-fasteoi   tpm0, tpm1", a count for each core.
std::string interrupts(const Words & /*words*/)
{
    std::FILE *file = std::fopen("/proc/interrupts", "r");
    std::array<char, 512> line{};
    std::string text;
    while (file != nullptr && std::fgets(line.data(), line.size(), file) != nullptr) {
        if (std::strstr(line.data(), " tpm") == nullptr) {
            continue;
        }
        const Words words = words_of(line.data());
        std::uint64_t sum = 0;
        std::size_t at = 1;
        for (std::size_t count = 0; at < words.size() && number(words[at], SIZE_MAX, count); ++at) {
            sum += count;
        }
        text += (text.empty() ? "" : " ") + std::to_string(sum);
        for (; at < words.size(); ++at) {
            text += "," + words[at].substr(0, words[at].find(','));
        }
    }
    if (file != nullptr) {
        std::fclose(file);
    }
    return text.empty() ? "-" : text;
}

std::string firmware_log(const Words &words)
{
    std::size_t n = 0;
    if (words.size() != 2 || !number(words[1], 65535, n)) {
        return kUsage;
    }
    const std::string path = "/sys/kernel/security/tpm" + std::to_string(n) + "/binary_bios_measurements";
    std::FILE *file = std::fopen(path.c_str(), "r");
    Bytes bytes;
    if (file != nullptr) {
        for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) {
            bytes.push_back(static_cast<std::uint8_t>(c));
        }
        std::fclose(file);
    }
    return bytes.empty() ? "-" : hex(bytes);
}

std::string joined(const std::vector<std::int64_t> &values)
{
    std::string text;
    for (const std::int64_t value : values) {
        text += (text.empty() ? "" : " ") + std::to_string(value);
    }
    return text;
}

std::string time_extends(const Words &words)
{
    return with_tpm(words, 4, [&](Tpm &tpm) -> std::string {
        std::size_t count = 0;
        std::size_t core = 0;
        if (!number(words[2], kCountMax, count) || !number(words[3], 63, core)) {
            return kUsage;
        }
        if (!run_on(core)) {
            return error("core");
        }
        const std::array<std::uint8_t, kSha256Size> digest{1};
        const Bytes command = pcr_extend(kBenchPcr, digest);
        std::vector<std::int64_t> times(count);
        for (std::int64_t &time : times) {
            const std::int64_t begin = now_ns();
            const std::uint32_t result = result_of(tpm.command(command));
            time = now_ns() - begin;
            if (result != 0) {
                return "error TPM_RC " + std::to_string(result);
            }
        }
        return joined(times);
    });
}

std::string time_timer(const Words &words)
{
    std::size_t count = 0;
    std::size_t core = 0;
    if (words.size() != 3 || !number(words[1], kCountMax, count) || !number(words[2], 63, core)) {
        return kUsage;
    }
    if (!run_on(core)) {
        return error("core");
    }
    std::vector<std::int64_t> late(count);
    for (std::int64_t &one : late) {
        const std::int64_t until = now_ns() + 1'000'000;
        const timespec at{until / 1'000'000'000, until % 1'000'000'000};
        ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr);
        one = now_ns() - until;
    }
    return joined(late);
}

struct Flood {
    struct Shared { // with the children
        std::atomic<std::uint64_t> commands{0};
        std::atomic<bool> ends{false};
    };
    std::vector<pid_t> children;
    Shared *shared = nullptr;
};

/// Ends between two commands: a key that nobody flushed would stay in the TPM, which has room for three.
[[noreturn]] void flood_on(const std::string &path, const std::string &kind, std::size_t core, Flood::Shared &shared)
{
    (void)run_on(core);
    const std::array<std::uint8_t, kSha256Size> digest{2};
    const Bytes short_command = pcr_extend(kBenchPcr, digest);
    while (kind == "none" && !shared.ends) {
    }
    Tpm tpm(path);
    while (tpm.open() && !shared.ends) {
        if (kind == "extend") {
            shared.commands.fetch_add(result_of(tpm.command(short_command)) == 0 ? 1 : 0);
        } else {
            const std::uint32_t handle = handle_of(tpm.command(create_primary_rsa()));
            if (handle != 0) {
                shared.commands.fetch_add(1);
                (void)tpm.command(flush(handle));
            }
        }
    }
    ::_exit(1);
}

std::string begin_flood(const Words &words, Flood &flood)
{
    std::size_t n = 0;
    if (words.size() < 4 || !number(words[1], 65535, n) ||
        (words[2] != "extend" && words[2] != "rsa" && words[2] != "none") || !flood.children.empty()) {
        return kUsage;
    }
    flood.shared->commands = 0;
    flood.shared->ends = false;
    for (std::size_t i = 3; i < words.size(); ++i) {
        std::size_t core = 0;
        if (!number(words[i], 63, core)) {
            return kUsage;
        }
        // /dev/tpmN has one user at a time; the others come through the resource manager's node.
        const std::string path = device(n, i == 3 ? "tpm" : "tpmrm");
        const pid_t child = ::fork();
        if (child == 0) {
            flood_on(path, words[2], core, *flood.shared);
        }
        flood.children.push_back(child);
    }
    return "ok";
}

std::string end_flood(Flood &flood)
{
    flood.shared->ends = true;
    for (const pid_t child : flood.children) {
        ::waitpid(child, nullptr, 0);
    }
    flood.children.clear();
    return std::to_string(flood.shared->commands.load());
}

std::string answer(const Words &words, Flood &flood)
{
    const std::string verb = words.empty() ? "" : words[0];
    if (verb == "list") {
        return list(words);
    }
    if (verb == "extend") {
        return extend(words);
    }
    if (verb == "read") {
        return read_pcr(words);
    }
    if (verb == "random") {
        return random_bytes(words);
    }
    if (verb == "banks") {
        return banks(words);
    }
    if (verb == "make") {
        return make_key(words);
    }
    if (verb == "interrupts") {
        return interrupts(words);
    }
    if (verb == "log") {
        return firmware_log(words);
    }
    if (verb == "time") {
        return time_extends(words);
    }
    if (verb == "timer") {
        return time_timer(words);
    }
    if (verb == "flood") {
        return begin_flood(words, flood);
    }
    if (verb == "sent") {
        return std::to_string(flood.shared->commands.load());
    }
    if (verb == "calm") {
        return end_flood(flood);
    }
    if (verb == "off") {
        ::sync();
        ::reboot(RB_POWER_OFF);
    }
    return "error unknown command";
}

} // namespace

int main()
{
    ::mkdir("/dev", 0755);
    ::mkdir("/proc", 0755);
    ::mkdir("/sys", 0755);
    if (::mount("dev", "/dev", "devtmpfs", 0, nullptr) != 0 || ::mount("proc", "/proc", "proc", 0, nullptr) != 0 ||
        ::mount("sysfs", "/sys", "sysfs", 0, nullptr) != 0) {
        return 1;
    }
    (void)::mount("securityfs", "/sys/kernel/security", "securityfs", 0, nullptr);
    std::FILE *in = std::fopen("/dev/ttyS0", "r");
    std::FILE *out = std::fopen("/dev/ttyS0", "w");
    if (in == nullptr || out == nullptr) {
        return 1;
    }
    termios raw{};
    ::tcgetattr(::fileno(in), &raw);
    ::cfmakeraw(&raw);
    ::tcsetattr(::fileno(in), TCSANOW, &raw);

    void *shared = ::mmap(nullptr, sizeof(Flood::Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return 1;
    }
    Flood flood;
    flood.shared = new (shared) Flood::Shared;

    (void)std::fprintf(out, "ready\n");
    (void)std::fflush(out);
    std::array<char, 1024> line{};
    while (std::fgets(line.data(), line.size(), in) != nullptr) {
        (void)std::fprintf(out, "%s\n", answer(words_of(line.data()), flood).c_str());
        (void)std::fflush(out);
    }
    return 1;
}
