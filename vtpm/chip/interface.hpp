// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vtpm/chip/interrupts.hpp"
#include "vtpm/chip/locality.hpp"
#include "vtpm/chip/state_bytes.hpp"

namespace banyan::vtpm {

/// What the owner of an interface must do after a write: one answer of respond() is owed for kDispatch, also if
/// kAbandon comes before it.
struct Wish {
    bool dispatch = false;          // execute command() at locality()
    bool cancel = false;            // hurry, the response is wanted
    bool abandon = false;           // cancel; nobody reads the response
    bool reset_established = false; // clear tpmEstablishment, durably
};

/// What TIS and CRB share: a window of five pages, localities, launch, tpmEstablishment, interrupts. The protocol of
/// commands and the registers are the derived classes'.
///
/// Not thread safe: the owner locks. Reads and writes are software's; locality 4 takes no writes from it (PTP 3.5).
/// D-RTM comes by hardware_seize().
class Interface {
public:
    virtual ~Interface() = default;
    Interface(const Interface &) = delete;
    Interface &operator=(const Interface &) = delete;

    /// _TPM_Init: nothing of an earlier life is left.
    void power_on(bool established);

    /// Any width of 1, 2, 4 or 8 at any alignment inside one locality's page; every aligned word that it touches is
    /// read or written once, low address first, with the lanes that are touched.
    [[nodiscard]] std::uint64_t read(std::uint32_t offset, unsigned width);
    [[nodiscard]] Wish write(std::uint32_t offset, unsigned width, std::uint64_t value);

    /// HASH_START and HASH_END.
    [[nodiscard]] Wish hardware_seize();
    void hardware_release();
    void set_established(bool established);

    /// The response to a dispatched command, at most buffer_size() bytes: more is a bug of the caller.
    virtual void respond(std::span<const std::uint8_t> response) = 0;
    /// Its bytes do not change from dispatch to respond().
    [[nodiscard]] virtual std::span<const std::uint8_t> command() const = 0;
    [[nodiscard]] virtual std::size_t buffer_size() const = 0;
    [[nodiscard]] virtual bool executing() const = 0;

    /// Snapshot: all that software could see of it. load() takes only what the interface could have come to by itself;
    /// when it says no, the interface is of no more use.
    void save(StateWriter &out) const;
    [[nodiscard]] bool load(StateReader &in);

    [[nodiscard]] std::uint8_t locality() const { return localities_.active; }
    [[nodiscard]] const Localities &localities() const { return localities_; }
    [[nodiscard]] bool established() const { return established_; }
    [[nodiscard]] bool irq_level() const { return interrupts_.level(); }

protected:
    explicit Interface(bool interrupts) : interrupts_(interrupts) {}

    /// Lanes first..first+lanes-1 of the aligned word at `at` of a locality's page; `width` is that of the access.
    /// The value's lanes begin at bit 0.
    [[nodiscard]] virtual std::uint32_t read_lanes(std::uint8_t locality, std::uint32_t at, unsigned first,
                                                   unsigned lanes, unsigned width) = 0;
    virtual void write_lanes(std::uint8_t locality, std::uint32_t at, unsigned first, unsigned lanes,
                             std::uint32_t value, Wish &wish) = 0;
    virtual void power_cycled() = 0;
    virtual void released(Wish &wish) = 0; // the locality that was active is not any more
    virtual void granted(std::uint8_t locality) = 0;
    virtual void establishment_cleared() = 0;
    virtual void save_protocol(StateWriter &out) const = 0;
    [[nodiscard]] virtual bool load_protocol(StateReader &in) = 0;
    [[nodiscard]] virtual std::uint32_t interrupt_bits() const = 0; // that TPM_INT_ENABLE has

    void locality_event(LocalityEvent event, std::uint8_t locality, Wish &wish);
    void write_int_enable(std::uint8_t locality, std::uint32_t writable, unsigned first, unsigned lanes,
                          std::uint32_t value);

    Localities localities_;
    bool established_ = false;
    Interrupts interrupts_;
};

} // namespace banyan::vtpm
