# Sourced by scripts that start ranks, in the folder of the project: sets `brillm` to the program that BRILLM names, or to one that
# is built with the feature mpi against Open MPI, and `folder` to an empty folder, which the script removes.
export MPICC=mpicc.openmpi OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
profile=${BRILLM_PROFILE:-release}
if [ -z "${BRILLM:-}" ]; then
    cargo build --profile "$profile" --quiet --features mpi --bin brillm
    BRILLM=${CARGO_TARGET_DIR:-target}/${profile/#dev/debug}/brillm
fi
brillm=$(realpath "$BRILLM")
folder=$(mktemp -d)
