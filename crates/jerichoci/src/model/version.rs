//! Versions of the persisted documents.
//!
//! A reader takes a document of its own version or an older one; a newer one is an error that
//! says so. Additions that an old reader may ignore do not change a version.

/// `plan.json`.
pub const PLAN: u32 = 1;
/// `prepared-outputs.json`.
pub const PREPARED_OUTPUTS: u32 = 1;
/// The four files that hand a prepared output to another process.
pub const PREPARED_OUTPUT_HANDOFF: u32 = 1;
/// `spec.json`, the job definitions of a run.
pub const RUN_SPEC: u32 = 1;
/// `share/jerichoci/payload-manifest.json` of a prepared output.
pub const PAYLOAD_MANIFEST: u32 = 1;
/// `engine.json`, the identity of a state root.
pub const ENGINE: u32 = 1;
/// `owner.json`, the process that works on a run.
pub const OWNER: u32 = 1;
/// `instance.json` of a job, and the files of `guests/`.
pub const GUESTS: u32 = 1;
