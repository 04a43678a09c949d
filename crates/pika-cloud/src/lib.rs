//! What a guest is: RuntimeSpec, mounts, policies, lifecycle files, run request.
