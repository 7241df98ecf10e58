// SPDX-License-Identifier: GPL-2.0-or-later
// Which processes the engine is made of, for tests that end some of them.
#pragma once

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <dirent.h>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

namespace banyan::vtpm::testing {

[[nodiscard]] inline std::vector<pid_t> children_of(pid_t parent)
{
    std::vector<pid_t> children;
    DIR *proc = ::opendir("/proc");
    while (const dirent *entry = ::readdir(proc)) {
        const auto pid = static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10));
        std::ifstream stat("/proc/" + std::string(entry->d_name) + "/stat");
        std::string text;
        if (pid > 0 && std::getline(stat, text)) {
            const std::size_t at = text.rfind(')');
            if (at != std::string::npos && text.size() > at + 4 && text[at + 2] != 'Z' &&
                std::strtol(text.c_str() + at + 4, nullptr, 10) == parent) {
                children.push_back(pid);
            }
        }
    }
    ::closedir(proc);
    std::sort(children.begin(), children.end());
    return children;
}

/// The zygote, when the calling process has one vTPM.
[[nodiscard]] inline pid_t only_child()
{
    const auto children = children_of(::getpid());
    return children.size() == 1 ? children.front() : -1;
}

/// "vtpm-worker", "vtpm-keeper", ...
[[nodiscard]] inline std::string name_of_process(pid_t pid)
{
    std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
    std::string name;
    std::getline(file, name);
    return name;
}

/// Of the only vTPM, in the order of their start.
[[nodiscard]] inline std::vector<pid_t> workers()
{
    const pid_t zygote = only_child();
    std::vector<pid_t> found = zygote > 0 ? children_of(zygote) : std::vector<pid_t>{};
    std::erase_if(found, [](pid_t pid) { return name_of_process(pid) != "vtpm-worker"; });
    return found;
}

[[nodiscard]] inline pid_t last_worker()
{
    const auto all = workers();
    return all.empty() ? -1 : all.back();
}

/// Ends one process and waits until it is gone. Never a group of them: kill() takes -1 for everybody, which is what the
/// functions above say when there is none.
[[nodiscard]] inline bool end_process(pid_t pid)
{
    if (pid <= 1 || ::kill(pid, SIGKILL) != 0) {
        return false;
    }
    for (int i = 0; i < 50000; ++i) {
        std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
        std::string text;
        const std::size_t at = std::getline(stat, text) ? text.rfind(')') : std::string::npos;
        if (at == std::string::npos || text[at + 2] == 'Z') {
            return true;
        }
        ::usleep(100);
    }
    return false;
}

} // namespace banyan::vtpm::testing
