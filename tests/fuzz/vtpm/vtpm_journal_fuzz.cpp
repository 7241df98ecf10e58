// SPDX-License-Identifier: GPL-2.0-or-later
// The journal in shared memory: workers note commands down, die between any two, go over to other checkpoints, and leave
// anything at all behind. What is undamaged is replayed as it was noted; what is damaged is read within its bounds.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "vtpm/chip/tpm_header.hpp"
#include "vtpm/engine/journal.hpp"

namespace {

using namespace banyan::vtpm;
using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t kEntriesMax = 64;

void require(bool what)
{
    if (!what) {
        std::abort();
    }
}

struct Entry {
    std::uint8_t locality;
    Bytes command;
    friend bool operator==(const Entry &, const Entry &) = default;
};

class Play {
public:
    Play(const std::uint8_t *data, std::size_t size) : data_(data), size_(size) {}

    void run()
    {
        while (at_ < size_) {
            const std::uint8_t what = next();
            switch (what % 8) {
            case 0:
            case 1:
            case 2:
                note(what);
                break;
            case 3: // it died: the next one knows the memory alone
                writer_ = JournalWriter(*journal_);
                continued_ = false;
                break;
            case 4:
                ++checkpoint_;
                break;
            case 5:
                if ((what & 0x80) != 0) {
                    damage();
                } else {
                    writer_.clear();
                    noted_.clear();
                    of_ = 0;
                    continued_ = true;
                }
                break;
            default:
                look(what >> 3);
                break;
            }
        }
        look(kEntriesMax);
    }

private:
    std::uint8_t next() { return at_ < size_ ? data_[at_++] : std::uint8_t{0}; }

    void note(std::uint8_t what)
    {
        Bytes command(std::min<std::size_t>(kTpmHeaderSize + next() * (1 + what % 17U), kTpmBufferSize), what);
        for (unsigned i = 0; i < sizeof(std::uint32_t); ++i) {
            command[kTpmSizeAt + i] = static_cast<std::uint8_t>(command.size() >> (24 - 8 * i));
        }
        const Entry entry{static_cast<std::uint8_t>(what % 5), std::move(command)};
        const bool noted = writer_.note(checkpoint_, entry.locality, entry.command);
        if (damaged_) {
            return;
        }
        if (of_ != checkpoint_) { // whether it fits or not, the older ones are void
            noted_.clear();
            of_ = checkpoint_;
            continued_ = true;
        }
        require(!noted || continued_ || noted_.empty());
        if (noted) {
            noted_.push_back(entry);
            continued_ = true;
        } else {
            require((!continued_ && !noted_.empty()) || noted_.size() == kEntriesMax ||
                    room() < 3 + entry.command.size());
        }
    }

    [[nodiscard]] std::size_t room() const
    {
        std::size_t used = 0;
        for (const Entry &one : noted_) {
            used += 3 + one.command.size();
        }
        return Journal::kRoom - used;
    }

    void damage()
    {
        damaged_ = true;
        auto *bytes = reinterpret_cast<std::uint8_t *>(journal_.get());
        std::size_t at = (static_cast<unsigned>(next()) << 8 | next()) % sizeof(Journal);
        for (unsigned i = next() % 32; i > 0 && at < sizeof(Journal); --i) {
            bytes[at++] = next();
        }
    }

    void look(std::size_t most)
    {
        std::vector<Entry> seen;
        const bool whole =
            replay(*journal_, checkpoint_, [&](std::uint8_t locality, std::span<const std::uint8_t> command) {
                require(locality <= 4 && command_header_ok(command));
                require(command.data() > journal_->entries &&
                        command.data() + command.size() <= journal_->entries + Journal::kRoom);
                seen.push_back({locality, Bytes(command.begin(), command.end())});
                return seen.size() < most;
            });
        require(seen.size() <= kEntriesMax);
        if (damaged_) {
            return;
        }
        std::vector<Entry> expected = of_ == checkpoint_ ? noted_ : std::vector<Entry>{};
        require(writer_.empty(checkpoint_) == expected.empty());
        const bool stopped = !expected.empty() && expected.size() >= std::max<std::size_t>(most, 1);
        expected.resize(std::min(expected.size(), std::max<std::size_t>(most, 1)));
        require(seen == expected && whole == !stopped);
    }

    const std::uint8_t *data_;
    std::size_t size_;
    std::size_t at_ = 0;
    std::unique_ptr<Journal> journal_ = std::make_unique<Journal>();
    JournalWriter writer_{*journal_};
    std::uint64_t checkpoint_ = 1;
    std::vector<Entry> noted_;
    std::uint64_t of_ = 0;  // the checkpoint that noted_ continues
    bool continued_ = true; // by the worker that noted them
    bool damaged_ = false;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    Play(data, size).run();
    return 0;
}
