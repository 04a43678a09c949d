//! What a kind of run leaves out of its snapshot, as data.

/// Names at the top level of the source tree that are left out, beside what git ignores.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Profile {
    /// For records and messages.
    pub name: String,
    /// Files or directories directly under the source root.
    pub exclude_top_level: Vec<String>,
}

impl Profile {
    /// Leaves nothing out.
    #[must_use]
    pub fn full() -> Self {
        Self::new("full", &[])
    }

    /// Staged Linux lanes of Rust workspaces: without the mobile projects.
    #[must_use]
    pub fn rust() -> Self {
        Self::new("rust", &["ios", "android"])
    }

    /// Follow-up lanes: without the project that only a Mac can build.
    #[must_use]
    pub fn followup() -> Self {
        Self::new("followup", &["ios"])
    }

    fn new(name: &str, exclude: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            exclude_top_level: exclude.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// Whether the path lies in something left out.
    pub(crate) fn excludes(&self, path: &[u8]) -> bool {
        if self.exclude_top_level.is_empty() {
            return false;
        }
        let top = path.split(|&byte| byte == b'/').next().unwrap_or(path);
        self.exclude_top_level.iter().any(|name| name.as_bytes() == top)
    }
}
