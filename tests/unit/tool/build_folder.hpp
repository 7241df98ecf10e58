// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>
#include <fstream>
#include <stdlib.h>
#include <string>
#include <string_view>

#include "tool/machine.hpp"

namespace banyan::tool::test {

namespace fs = std::filesystem;

/// A folder with a build as the tool expects it: small files in the place of kernels and payloads.
class Build {
public:
    Build()
    {
        std::string name = (fs::temp_directory_path() / "banyan-test-XXXXXX").string();
        path_ = ::mkdtemp(name.data());
        put("images/amd64/vmlinuz", "kernel of amd64");
        put("images/cloud-amd64/vmlinuz", "kernel of cloud-amd64");
        put("share/banyan/initrd-amd64.img", "initrd of amd64");
        put("share/banyan/initrd-cloud-amd64.img", "initrd of cloud-amd64");
        put("share/banyan/stage0.bin", "stage 0");
        put("share/banyan/hypervisor.elf", "elf");
        const std::string slb = std::string("\x04\x00\x10\x00", 4) + "twelve bytes, and more that is not measured";
        put("share/banyan/loader.slb", slb); // entry 4, measured 16
        put("share/banyan/hypervisor.slb", slb);
    }
    Build(const Build &) = delete;
    Build &operator=(const Build &) = delete;
    ~Build()
    {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }

    fs::path put(const fs::path &name, std::string_view content) const
    {
        fs::create_directories((path_ / name).parent_path());
        std::ofstream(path_ / name, std::ios::binary) << content;
        return path_ / name;
    }

    [[nodiscard]] const fs::path &path() const { return path_; }
    [[nodiscard]] Places places() const { return {path_ / "bin", path_ / "share/banyan", path_ / "images"}; }
    [[nodiscard]] fs::path file() const { return path_ / "machine.toml"; }

    [[nodiscard]] Outcome<Machine> parse(std::string_view text) const { return parse_machine(text, file(), places()); }

private:
    fs::path path_;
};

} // namespace banyan::tool::test
