// SPDX-License-Identifier: GPL-2.0-or-later
// A disk that fails the way disks and kernels do: writes that stop half-way, flushes that fail and are forgotten, power
// that goes. What was written is seen at once; what is durable is decided at a flush or a cut.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "vtpm/store/store_file.hpp"

namespace banyan::vtpm::testing {

using Random = std::mt19937_64;

enum class Fault : std::uint8_t {
    kNone,
    kHalf,    // a write does a part of what was asked, without an error
    kNoSpace, // a part is written, then ENOSPC
    kIo,  // a part is written, then EIO; at a flush: any part of what was written is durable, and the rest forgotten
    kCut, // the power goes: nothing works from here on
};

class FaultDisk {
public:
    struct Access {
        const std::string &file;
        bool sync;
        std::size_t size; // of a write
    };

    explicit FaultDisk(std::uint64_t seed) : random(seed) {}

    /// Asked before each write and flush.
    std::function<Fault(const Access &)> fault = [](const Access &) { return Fault::kNone; };
    /// How many bytes of a write that fails are done. Random unless told.
    std::function<std::size_t(std::size_t)> part = [this](std::size_t size) { return below(size + 1); };
    Random random;
    bool cut = false;

    [[nodiscard]] std::size_t below(std::size_t n) { return static_cast<std::size_t>(random() % n); }
    [[nodiscard]] std::unique_ptr<StoreFile> open(const std::string &name)
    {
        return std::make_unique<File>(*this, name, files_[name]);
    }
    void set_content(const std::string &name, std::vector<std::uint8_t> bytes) { files_[name] = {bytes, bytes, {}}; }
    [[nodiscard]] const std::vector<std::uint8_t> &durable(const std::string &name) { return files_[name].durable; }

    /// Which writes that were not flushed reached the disk.
    enum class Survivors : std::uint8_t { kAny, kAll, kLast, kNone };

    /// Power is back: each write that was not flushed may be there, as a whole, in part or not at all.
    void come_back(Survivors which = Survivors::kAny)
    {
        for (auto &[name, file] : files_) {
            settle(file, which);
            file.cached = file.durable;
        }
        cut = false;
    }

private:
    struct Write {
        std::size_t at;
        std::vector<std::uint8_t> bytes;
    };
    struct Content {
        std::vector<std::uint8_t> durable;
        std::vector<std::uint8_t> cached;
        std::vector<Write> pending;
    };

    static void put(std::vector<std::uint8_t> &into, std::size_t at, const std::uint8_t *bytes, std::size_t size)
    {
        if (into.size() < at + size) {
            into.resize(at + size);
        }
        std::copy(bytes, bytes + size, into.begin() + static_cast<std::ptrdiff_t>(at));
    }

    void settle(Content &file, Survivors which)
    {
        for (std::size_t i = 0; i < file.pending.size(); ++i) {
            const Write &one = file.pending[i];
            std::size_t size = one.bytes.size();
            switch (which) {
            case Survivors::kAny:
                size = below(3) == 0 ? below(size + 1) : below(2) * size;
                break;
            case Survivors::kAll:
                break;
            case Survivors::kLast:
                size = i + 1 == file.pending.size() ? size : 0;
                break;
            case Survivors::kNone:
                size = 0;
                break;
            }
            put(file.durable, one.at, one.bytes.data(), size);
        }
        file.pending.clear();
    }

    class File final : public StoreFile {
    public:
        File(FaultDisk &disk, std::string name, Content &content)
            : disk_(disk),
              name_(std::move(name)),
              content_(content)
        {}

        ssize_t read_at(void *data, std::size_t size, off_t at) override
        {
            const auto begin = static_cast<std::size_t>(at);
            if (disk_.cut) {
                return -EIO;
            }
            const std::size_t got =
                begin >= content_.cached.size() ? 0 : std::min(size, content_.cached.size() - begin);
            if (got > 0) {
                std::memcpy(data, content_.cached.data() + begin, got);
            }
            return static_cast<ssize_t>(got);
        }

        ssize_t write_at(const void *data, std::size_t size, off_t at) override
        {
            if (disk_.cut) {
                return -EIO;
            }
            const Fault fault = disk_.fault({name_, false, size});
            std::size_t done = fault == Fault::kNone ? size : disk_.part(size);
            if (fault == Fault::kHalf) {
                done = std::max<std::size_t>(done, 1);
            }
            const auto *bytes = static_cast<const std::uint8_t *>(data);
            const auto begin = static_cast<std::size_t>(at);
            put(content_.cached, begin, bytes, done);
            content_.pending.push_back({begin, {bytes, bytes + done}});
            switch (fault) {
            case Fault::kNone:
            case Fault::kHalf:
                return static_cast<ssize_t>(done);
            case Fault::kNoSpace:
                return -ENOSPC;
            case Fault::kCut:
                disk_.cut = true;
                break;
            case Fault::kIo:
                break;
            }
            return -EIO;
        }

        int sync() override
        {
            if (disk_.cut) {
                return -EIO;
            }
            switch (disk_.fault({name_, true, 0})) {
            case Fault::kNone:
            case Fault::kHalf:
                disk_.settle(content_, Survivors::kAll);
                return 0;
            case Fault::kCut:
                disk_.cut = true;
                return -EIO;
            case Fault::kNoSpace:
            case Fault::kIo: // Linux tells once, and takes the pages for clean
                disk_.settle(content_, Survivors::kAny);
                break;
            }
            return -EIO;
        }

        off_t size() override { return static_cast<off_t>(content_.cached.size()); }

    private:
        FaultDisk &disk_;
        const std::string name_;
        Content &content_; // std::map keeps it where it is
    };

    std::map<std::string, Content> files_;
};

} // namespace banyan::vtpm::testing
