//! Views of jobs: plain copies of a snapshot.
#![expect(missing_docs, reason = "about to be replaced")]
use std::os::unix::{ffi::OsStrExt, fs::PermissionsExt};
use std::path::{Path, PathBuf};
use std::ffi::OsStr;
use super::{Manifest, SnapshotError, Store, EntryKind};
use super::objects::ObjectReader;
use jericho_host::CancelToken;
#[derive(Debug)]
pub struct TreeLease { pub slot: u32, pub path: PathBuf }
pub fn lease_tree(s: &Store, d: &Path, m: &Manifest, _a: &str) -> Result<TreeLease, SnapshotError> {
    let path = d.join("0/tree"); private_copy(s, &path, m)?; Ok(TreeLease { slot: 0, path })
}
pub fn private_copy(s: &Store, d: &Path, m: &Manifest) -> Result<(), SnapshotError> {
    let c = CancelToken::new().map_err(SnapshotError::io("x", d))?;
    let _l = s.lock_shared(&c)?;
    let o = s.objects()?;
    let mut r = ObjectReader::new(&o, &s.marks_dir());
    jericho_host::fs::remove_tree(d).map_err(SnapshotError::io("remove", d))?;
    std::fs::create_dir_all(d).map_err(SnapshotError::io("create", d))?;
    for e in m.iter() {
        let p = d.join(OsStr::from_bytes(e.path));
        if let Some(dir) = p.parent() { std::fs::create_dir_all(dir).map_err(SnapshotError::io("create", dir))?; }
        let b = r.read_all(&e.hash, e.path)?;
        if e.kind == EntryKind::Symlink { std::os::unix::fs::symlink(OsStr::from_bytes(&b), &p).map_err(SnapshotError::io("link", &p))?; continue; }
        std::fs::write(&p, b).map_err(SnapshotError::io("write", &p))?;
        if e.kind == EntryKind::Executable { std::fs::set_permissions(&p, std::fs::Permissions::from_mode(0o755)).map_err(SnapshotError::io("chmod", &p))?; }
    }
    Ok(())
}
#[derive(Debug, Default)] pub struct CR { pub freed_bytes: u64 }
impl Store { pub fn collect(&self, _l: &dyn Fn() -> std::collections::HashSet<super::ContentHash>, _d: bool) -> Result<CR, SnapshotError> { Ok(CR::default()) } }
#[derive(Debug)] pub struct ChangedFiles { pub files: Vec<String>, pub no_base: Option<String> }
pub fn git_changed_files(_r: &Path, _b: Option<&str>, _e: &jericho_host::Environment) -> Result<ChangedFiles, SnapshotError> { Ok(ChangedFiles { files: vec![], no_base: Some("shim".into()) }) }
