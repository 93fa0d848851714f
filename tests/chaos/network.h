/// Networks of the harness's own: one namespace with a bridge for the server and its neighbours, and one with a link of
/// its own for each worker that is to be cut off.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>

namespace lategrad::chaos {

class Network {
  public:
    /// Nothing where such networks are not allowed here; `why` says so. Removes what a harness that was killed left.
    static std::optional<Network> make(std::size_t links, std::string& why);

    Network(Network&& other) noexcept : name_(std::move(other.name_)), links_(other.links_) { other.name_.clear(); }
    Network& operator=(Network&& other) noexcept {
        std::swap(name_, other.name_);
        std::swap(links_, other.links_);
        return *this;
    }
    /// Removes it all.
    ~Network();

    /// Namespace of the server, and of workers without a link.
    std::string middle() const { return name_ + "-0"; }
    /// Namespace at the end of a link.
    std::string end(std::size_t link) const { return name_ + "-" + std::to_string(link + 1); }
    std::size_t links() const { return links_; }
    /// Where the server listens: an address of middle().
    std::string address() const;
    /// Throws EnvironmentError.
    void set_link(std::size_t link, bool up);

  private:
    Network(std::string name, std::size_t links) : name_(std::move(name)), links_(links) {}
    std::string name_;
    std::size_t links_;
};

/// This thread, and those that it starts, live in that namespace from now on.
void enter_network(const std::string& name);

} // namespace lategrad::chaos
