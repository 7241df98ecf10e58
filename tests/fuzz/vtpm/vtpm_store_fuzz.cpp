// SPDX-License-Identifier: GPL-2.0-or-later
// A store file and a generations file that somebody worked on, who has old copies of them but not the key. Whatever he
// does, the state that comes up is one that was acknowledged, and under an intact generations file the last one.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "tests/unit/vtpm/fault_disk.hpp"
#include "vtpm/store/inspect.hpp"
#include "vtpm/store/store_slot.hpp"

namespace {

using namespace banyan::vtpm;
using banyan::vtpm::testing::FaultDisk;

constexpr std::uint32_t kInstance = 1;
constexpr std::size_t kStates = 4;

void require(bool what)
{
    if (!what) {
        std::abort();
    }
}

/// The files as they were after each of some acknowledged commits.
struct History {
    std::array<Bytes, kStates> store;
    std::array<Bytes, kStates> generations;
    std::array<Bytes, kStates> permanent;

    History()
    {
        FaultDisk disk(0);
        for (std::size_t i = 0; i < kStates; ++i) {
            permanent[i].assign(40 + 13 * i, static_cast<std::uint8_t>(i + 1));
        }
        Anchor anchor(disk.open("generations"), StoreKey{}, kInstance);
        auto made = Store::adopt_empty(disk.open("store"), StoreKey{}, kInstance, std::move(anchor), permanent[0]);
        require(made.has_value());
        for (std::size_t i = 0; i < kStates; ++i) {
            require(i == 0 || made->commit(permanent[i], i % 2 == 1).has_value());
            store[i] = disk.durable("store");
            generations[i] = disk.durable("generations");
        }
    }
    [[nodiscard]] bool knows(const Bytes &state) const
    {
        return std::find(permanent.begin(), permanent.end(), state) != permanent.end();
    }
};

class Input {
public:
    Input(const std::uint8_t *data, std::size_t size) : data_(data), size_(size) {}
    [[nodiscard]] bool more() const { return at_ < size_; }
    std::uint8_t byte() { return more() ? data_[at_++] : 0; }
    std::size_t word() { return static_cast<std::size_t>(byte()) << 8 | byte(); }

private:
    const std::uint8_t *data_;
    std::size_t size_;
    std::size_t at_ = 0;
};

/// Where something is: heads, blobs, both anchor slots, and between them.
std::size_t place(Input &input, bool generations)
{
    static constexpr std::size_t kStoreAt[] = {0, kBlobAt, kSlotSize, kSlotSize + kBlobAt};
    static constexpr std::size_t kAnchorAt[] = {0, 8192, 8192 + 4096, 4096};
    const std::uint8_t which = input.byte();
    const std::size_t base = generations ? kAnchorAt[which % 4] : kStoreAt[which % 4];
    return base + ((which & 0x80) != 0 ? input.word() : input.byte() % 128U);
}

void write(Bytes &file, std::size_t at, std::uint8_t value)
{
    if (file.size() <= at) {
        file.resize(at + 1);
    }
    file[at] = value;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    static const History history;
    Input input(data, size);
    Bytes store = history.store.back();
    Bytes generations = history.generations.back();
    bool anchor_intact = true;
    while (input.more()) {
        const std::uint8_t what = input.byte();
        Bytes &file = (what & 0x80) != 0 ? generations : store;
        const bool anchor = &file == &generations;
        const Bytes before = generations;
        switch (what & 7) {
        case 0:
            write(file, place(input, anchor), input.byte());
            break;
        case 1: {
            const std::size_t at = place(input, anchor);
            for (std::size_t i = input.byte() % 64U; i > 0; --i) {
                write(file, at + i - 1, input.byte());
            }
            break;
        }
        case 2:
            file.resize(std::min(file.size(), place(input, anchor)));
            break;
        case 3: // an old copy
            file = (anchor ? history.generations : history.store)[input.byte() % kStates];
            break;
        case 4: { // a part of an old copy
            const Bytes &old = (anchor ? history.generations : history.store)[input.byte() % kStates];
            const std::size_t at = place(input, anchor);
            for (std::size_t i = at; i < std::min(old.size(), at + input.word()); ++i) {
                write(file, i, old[i]);
            }
            break;
        }
        default: { // one place onto another
            const std::size_t from = place(input, anchor);
            const std::size_t to = place(input, anchor);
            const Bytes copy = file;
            for (std::size_t i = input.byte() * 4U; i > 0; --i) {
                write(file, to + i, from + i < copy.size() ? copy[from + i] : 0);
            }
            break;
        }
        }
        anchor_intact = anchor_intact && generations == before;
    }

    FaultDisk disk(0);
    disk.set_content("store", store);
    disk.set_content("generations", generations);
    const std::shared_ptr<StoreFile> file = disk.open("store");
    const StoreKey key{};
    (void)inspect_store(*file, nullptr, nullptr);
    const StoreFacts facts = inspect_store(*file, &key, disk.open("generations"));
    auto opened = Store::open(disk.open("store"), key, kInstance, Anchor(disk.open("generations"), key, kInstance));
    if (!opened) {
        require(opened.error() == banyan::Errc::kCorrupt);
        return 0;
    }
    require(opened->freshness() != Freshness::kErased);
    require(history.knows(opened->record().permanent));
    const bool current = opened->freshness() == Freshness::kCurrent;
    require(current == (facts.verdict == StoreFacts::Verdict::kCurrent));
    require(!current || !anchor_intact || opened->record().permanent == history.permanent.back());
    const Bytes next(77, 0x99);
    if (!current) {
        require(!opened->commit(next, false));
        const Bytes taken = opened->record().permanent;
        require(opened->accept().has_value());
        require(opened->record().permanent == taken);
    }
    require(opened->commit(next, false).has_value());
    const auto again =
        Store::open(disk.open("store"), key, kInstance, Anchor(disk.open("generations"), key, kInstance));
    require(again && again->freshness() == Freshness::kCurrent && again->record().permanent == next);
    return 0;
}
