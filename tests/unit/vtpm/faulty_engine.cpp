// SPDX-License-Identifier: GPL-2.0-or-later
// The engine with a disk that fails. BANYAN_TEST_DISK="SEED CUT ONE_IN": the power goes in write or flush number CUT
// (0: never), and of the others one in ONE_IN fails (0: none). What is durable is in the real files at any time.
#include <cstdio>
#include <cstdlib>
#include <map>

#include "tests/unit/vtpm/fault_disk.hpp"
#include "vtpm/engine/roles.hpp"

namespace {

using namespace banyan::vtpm;
using banyan::vtpm::testing::Fault;
using banyan::vtpm::testing::FaultDisk;

/// Shows the store a file of the fault disk, and the real file what became durable of it.
class MirroredFile final : public StoreFile {
public:
    MirroredFile(FaultDisk &disk, std::string name, std::unique_ptr<StoreFile> real)
        : disk_(disk),
          name_(std::move(name)),
          real_(std::move(real))
    {
        std::vector<std::uint8_t> content(static_cast<std::size_t>(std::max<off_t>(0, real_->size())));
        if (!read_whole(*real_, content.data(), content.size(), 0)) {
            content.clear();
        }
        shown_ = content;
        disk_.set_content(name_, std::move(content));
        file_ = disk_.open(name_);
        all().push_back(this);
    }

    ssize_t read_at(void *data, std::size_t size, off_t at) override { return file_->read_at(data, size, at); }
    ssize_t write_at(const void *data, std::size_t size, off_t at) override
    {
        return after(file_->write_at(data, size, at));
    }
    int sync() override { return static_cast<int>(after(file_->sync())); }
    off_t size() override { return file_->size(); }

private:
    static std::vector<MirroredFile *> &all()
    {
        static std::vector<MirroredFile *> files; // for the power cut; none is ever closed before
        return files;
    }

    ssize_t after(ssize_t result)
    {
        if (disk_.cut) {
            disk_.come_back();
            for (MirroredFile *file : all()) {
                file->mirror();
            }
            quit(0);
        }
        mirror();
        return result;
    }

    void mirror()
    {
        const auto &now = disk_.durable(name_);
        shown_.resize(now.size());
        constexpr std::size_t kBlock = 512;
        for (std::size_t at = 0; at < now.size(); at += kBlock) {
            const std::size_t size = std::min(kBlock, now.size() - at);
            if (std::memcmp(now.data() + at, shown_.data() + at, size) != 0) {
                (void)write_whole(*real_, now.data() + at, size, static_cast<off_t>(at));
                std::memcpy(shown_.data() + at, now.data() + at, size);
            }
        }
    }

    FaultDisk &disk_;
    std::string name_;
    std::unique_ptr<StoreFile> real_;
    std::unique_ptr<StoreFile> file_;
    std::vector<std::uint8_t> shown_;
};

} // namespace

int main(int argc, char **argv)
{
    unsigned long long seed = 0;
    unsigned cut_at = 0;
    unsigned one_in = 0;
    const char *plan = std::getenv("BANYAN_TEST_DISK");
    if (plan == nullptr || std::sscanf(plan, "%llu %u %u", &seed, &cut_at, &one_in) != 3) {
        std::fputs("BANYAN_TEST_DISK is missing\n", stderr);
        return 2;
    }
    static FaultDisk disk(seed);
    unsigned seen = 0;
    disk.fault = [&](const FaultDisk::Access &) {
        if (++seen == cut_at) {
            return Fault::kCut;
        }
        if (one_in == 0 || disk.below(one_in) != 0) {
            return Fault::kNone;
        }
        constexpr Fault kWays[] = {Fault::kHalf, Fault::kNoSpace, Fault::kIo};
        return kWays[disk.below(3)];
    };
    EngineOptions options;
    options.open_file = [](const std::string &path, int flags) -> banyan::Result<std::unique_ptr<StoreFile>> {
        auto real = open_disk_file(path, flags);
        if (!real) {
            return real;
        }
        return std::make_unique<MirroredFile>(disk, path, std::move(*real));
    };
    return run_engine(argc, argv, options);
}
