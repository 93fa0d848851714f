#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

#include "lategrad/transport/mpi_call.h"
#include "lategrad/transport/mpi_launch.h"
#include "lategrad/transport/poll_pace.h"

namespace lategrad {
namespace {

/// Processes of this run on this machine, as the launcher tells; all of them where it does not.
std::size_t local_processes(std::size_t size) {
    for (const char* variable : {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"}) {
        const char* text = std::getenv(variable);
        const std::size_t value = text ? std::strtoul(text, nullptr, 10) : 0;
        if (value > 0) return value;
    }
    return size;
}

/// A launcher may have bound this process to one core, which its computation then shares with the polling.
bool bound_to_one_core() {
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) < 2;
}

class Session final : public MpiSession {
  public:
    Session() {
        int provided = MPI_THREAD_SINGLE;
        mpi_check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
        mpi_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
        int rank = 0;
        int size = 0;
        mpi_check(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
        mpi_check(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
        rank_ = static_cast<std::size_t>(rank);
        size_ = static_cast<std::size_t>(size);

        const auto launch = mpi_launch();
        if (size_ == 1 && launch && launch->processes > 1) {
            MPI_Finalize();
            const std::string name(mpi_build_name());
            throw InputError("started as one of " + std::to_string(launch->processes) + " processes by " +
                             std::string(launch->launcher) + ", but this build has " + name + ": start it by " + name +
                             "'s mpirun, or configure the build with -DLATEGRAD_MPI=openmpi or -DLATEGRAD_MPI=mpich");
        }
        if (provided < MPI_THREAD_FUNNELED) {
            MPI_Finalize();
            throw EnvironmentError("this MPI allows no threads beside it (MPI_THREAD_FUNNELED)");
        }
        char text[MPI_MAX_LIBRARY_VERSION_STRING];
        int length = 0;
        mpi_check(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
        library_.assign(text); // Open MPI's length counts the NUL
        library_.erase(std::min(library_.find('\n'), library_.size()));
        std::replace(library_.begin(), library_.end(), '\t', ' ');
    }

    std::size_t rank() const override { return rank_; }
    std::size_t size() const override { return size_; }
    const std::string& library() const override { return library_; }

    std::unique_ptr<MpiTransport> make_transport(const Clock& clock, const MpiOptions& options) override {
        const bool crowded = local_processes(size_) > std::thread::hardware_concurrency() || bound_to_one_core();
        return make_mpi_transport(rank_, size_, crowded, clock, options);
    }

    bool finish(bool clean, Duration patience) override {
        // A rank that is not clean waits for nobody: rank 0 cannot be clean then either.
        if (rank_ != 0 && !clean) return false;
        verdict_ = clean ? 1 : 0;
        std::vector<MPI_Request> requests;
        if (rank_ == 0) {
            for (std::size_t to = 1; to < size_; ++to) {
                mpi_check(MPI_Isend(&verdict_, 1, MPI_CHAR, static_cast<int>(to), kVerdictTag, MPI_COMM_WORLD,
                                    &requests.emplace_back()),
                          "MPI_Isend");
            }
        } else {
            mpi_check(MPI_Irecv(&verdict_, 1, MPI_CHAR, 0, kVerdictTag, MPI_COMM_WORLD, &requests.emplace_back()),
                      "MPI_Irecv");
        }
        const SteadyClock clock;
        for (int done = 0;;) {
            mpi_check(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE),
                      "MPI_Testall");
            if (done) break;
            if (clock.now() - Time{} >= patience) return false;
            std::this_thread::sleep_for(PollPace::kSleepMax);
        }
        if (verdict_ == 0) return false;
        mpi_check(MPI_Finalize(), "MPI_Finalize");
        return true;
    }

  private:
    std::size_t rank_ = 0;
    std::size_t size_ = 0;
    std::string library_;
    char verdict_ = 0; ///< rank 0's, sent or received; outlives a `finish` that gave up
};

} // namespace

std::unique_ptr<MpiSession> open_mpi_session() {
    return std::make_unique<Session>();
}

} // namespace lategrad
