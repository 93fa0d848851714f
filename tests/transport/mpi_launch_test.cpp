#include "lategrad/transport/mpi_launch.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>

#include "lategrad/transport/mpi.h"

namespace lategrad {
namespace {

class MpiLaunch : public ::testing::Test {
  protected:
    void SetUp() override {
        for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE", "PMI_RANK", "PMI_FD",
                                     "MPI_LOCALNRANKS", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"}) {
            unsetenv(variable);
        }
    }
};

TEST_F(MpiLaunch, NobodyLaunched) {
    EXPECT_FALSE(mpi_launch());
}

TEST_F(MpiLaunch, KnowsOpenMpi) {
    setenv("OMPI_COMM_WORLD_SIZE", "9", 1);
    setenv("OMPI_COMM_WORLD_RANK", "3", 1);
    ASSERT_TRUE(mpi_launch());
    EXPECT_EQ(mpi_launch()->processes, 9u);
    EXPECT_EQ(mpi_launch()->rank, 3u);
    EXPECT_EQ(mpi_launch()->launcher, "Open MPI's mpirun");
}

TEST_F(MpiLaunch, KnowsMpich) {
    setenv("PMI_SIZE", "4", 1);
    ASSERT_TRUE(mpi_launch());
    EXPECT_EQ(mpi_launch()->processes, 4u);
    EXPECT_EQ(mpi_launch()->launcher, "MPICH's mpirun");
}

TEST_F(MpiLaunch, KnowsSlurmsStepsButNotItsBatchScripts) {
    setenv("SLURM_PROCID", "0", 1);
    setenv("SLURM_NTASKS", "16", 1);
    EXPECT_FALSE(mpi_launch());
    setenv("SLURM_STEP_NUM_TASKS", "16", 1);
    ASSERT_TRUE(mpi_launch());
    EXPECT_EQ(mpi_launch()->processes, 16u);
    EXPECT_EQ(mpi_launch()->launcher, "Slurm's srun");
}

TEST_F(MpiLaunch, KnowsMpichWithinSlurm) {
    setenv("SLURM_PROCID", "1", 1); // of the node, which is what srun has started
    setenv("SLURM_STEP_NUM_TASKS", "2", 1);
    setenv("MPI_LOCALNRANKS", "4", 1);
    setenv("PMI_SIZE", "8", 1);
    setenv("PMI_RANK", "5", 1);
    ASSERT_TRUE(mpi_launch());
    EXPECT_EQ(mpi_launch()->launcher, "MPICH's mpirun");
    EXPECT_EQ(mpi_launch()->processes, 8u);
    EXPECT_EQ(mpi_launch()->rank, 5u);
}

TEST_F(MpiLaunch, TellsMpichsMpirunToEndTheOthersAndNobodyElse) {
    std::array<int, 2> ends{};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
    setenv("PMI_FD", std::to_string(ends[0]).c_str(), 1);
    const auto told = [&] {
        std::array<char, 64> text{};
        const auto bytes = recv(ends[1], text.data(), text.size(), MSG_DONTWAIT);
        return std::string(text.data(), bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
    };
    setenv("PMI_SIZE", "1", 1);
    end_launched_processes(2);
    EXPECT_EQ(told(), "");
    setenv("PMI_SIZE", "2", 1);
    end_launched_processes(2);
    EXPECT_EQ(told(), "cmd=abort exitcode=2\n");
    setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
    end_launched_processes(2);
    EXPECT_EQ(told(), "");
    unsetenv("OMPI_COMM_WORLD_SIZE");
    close(ends[1]);
    end_launched_processes(2); // a launcher that is gone
    close(ends[0]);
}

TEST_F(MpiLaunch, IgnoresWhatIsNoNumber) {
    setenv("PMI_SIZE", "many", 1);
    EXPECT_FALSE(mpi_launch());
    setenv("PMI_SIZE", "0", 1);
    EXPECT_FALSE(mpi_launch());
}

TEST_F(MpiLaunch, ABuildWithoutMpiSaysSo) {
    if (mpi_build_name() != "none") GTEST_SKIP() << "this build has " << mpi_build_name();
    try {
        open_mpi_session();
        FAIL() << "a session without MPI";
    } catch (const InputError& error) {
        EXPECT_NE(std::string(error.what()).find("-DLATEGRAD_MPI="), std::string::npos);
    }
}

} // namespace
} // namespace lategrad
