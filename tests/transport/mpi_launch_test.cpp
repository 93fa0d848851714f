#include "lategrad/transport/mpi_launch.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "lategrad/transport/mpi.h"

namespace lategrad {
namespace {

class MpiLaunch : public ::testing::Test {
  protected:
    void SetUp() override {
        for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE", "PMI_RANK",
                                     "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"}) {
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
