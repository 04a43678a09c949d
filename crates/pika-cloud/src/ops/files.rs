//! Files of a guest, running or stopped, and the recorded output of its commands.

use std::io::{self, Read};
use std::time::Duration;

use serde_json::Value;
use ureq::Body;
use ureq::http::{self, Method, StatusCode};

use super::client::{Request, Trouble, quoted};
use super::ensure::InstanceRef;
use super::error::OpsError;
use super::incus::Incus;
use super::patience::Backoff;

/// Largest document that is read whole: status, result, request. Others are streamed.
const DOCUMENT_LIMIT: u64 = 16 * 1024 * 1024;

/// How often a file is asked for of a guest with which Incus fails: for three seconds.
const UNSETTLED: u32 = 7;

/// Largest listing of one directory.
const LISTING_LIMIT: u64 = 64 * 1024 * 1024;

/// What is at a path in a guest.
#[derive(Debug)]
pub(crate) enum Found {
    File(http::Response<Body>),
    /// Names in it, as the guest has them: not to be trusted.
    Directory(Vec<String>),
    Symlink,
    /// Something that is neither.
    Other,
}

/// Whose file is pushed, and with which rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOwner {
    /// User in the guest.
    pub uid: u32,
    /// Group in the guest.
    pub gid: u32,
    /// Permission bits, such as `0o400`.
    pub mode: u32,
}

impl Incus {
    /// The content of a small file of a guest; nothing when it, or the guest, is not there.
    ///
    /// # Errors
    ///
    /// [`OpsError::Failed`] for what is no file or larger than 16 MiB, or Incus does not answer.
    pub fn read_file(&self, instance: &InstanceRef, path: &str) -> Result<Option<Vec<u8>>, OpsError> {
        let action = format!("read {path} of instance {}", instance.name);
        let read = self.settled(&action, instance, || {
            let Found::File(mut response) = self.look(instance, path)? else {
                return Err(Trouble::Garbled(format!("{path} is no file")));
            };
            let body = response.body_mut().with_config().limit(DOCUMENT_LIMIT).read_to_vec();
            body.map_err(|error| self.client.trouble(error))
        });
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(trouble) if trouble.is_missing() => Ok(None),
            Err(trouble) => Err(self.explain(&action, trouble)),
        }
    }

    /// Names in a directory of a guest; nothing when it is not there, or is none.
    ///
    /// # Errors
    ///
    /// When Incus does not answer.
    pub fn list_dir(&self, instance: &InstanceRef, path: &str) -> Result<Option<Vec<String>>, OpsError> {
        let action = format!("list {path} of instance {}", instance.name);
        let looked = self.settled(&action, instance, || {
            Ok(match self.look(instance, path)? {
                Found::Directory(names) => Some(names),
                _ => None,
            })
        });
        match looked {
            Ok(names) => Ok(names),
            Err(trouble) if trouble.is_missing() => Ok(None),
            Err(trouble) => Err(self.explain(&action, trouble)),
        }
    }

    /// Tries something with the files of a guest, also while the guest is being stopped or removed:
    /// then Incus fails in a number of ways, for a moment. Without a guest the file is missing.
    pub(crate) fn settled<T>(
        &self,
        action: &str,
        instance: &InstanceRef,
        mut attempt: impl FnMut() -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut tries = 0;
        loop {
            let tried = self.repeat(action, Trouble::is_transient, &mut attempt);
            let Err(Trouble::Api { code: 500, message }) = tried else { return tried };
            if (Trouble::Api { code: 500, message: message.clone() }).is_before(true) {
                // Not of the guest, and tried again already.
                return Err(Trouble::Api { code: 500, message });
            }
            tries += 1;
            if let Ok(None) = self.instance(&instance.project, &instance.name) {
                return Err(Trouble::Api { code: 404, message });
            }
            if tries == UNSETTLED {
                return Err(Trouble::Api { code: 500, message });
            }
            self.client.pause(backoff.next()).map_err(Trouble::Cancelled)?;
        }
    }

    /// What a growing file of a guest has behind `offset`, at most 16 MiB; nothing when that is
    /// nothing, or there is no such file.
    pub(crate) fn read_from(
        &self,
        instance: &InstanceRef,
        path: &str,
        offset: u64,
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let request = Request::get(file_path(instance, path)).header("Range", format!("bytes={offset}-"));
        let response = self.client.fetch(&request)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        body.take(DOCUMENT_LIMIT).read_to_end(&mut bytes).map_err(|error| self.client.broken(error))?;
        Ok(Some(bytes))
    }

    /// Writes a file of a guest; its directory is there. The runner of a guest is brought so.
    ///
    /// # Errors
    ///
    /// [`OpsError::NotFound`] when guest or directory is not there, or Incus does not answer.
    pub fn push_file(
        &self,
        instance: &InstanceRef,
        path: &str,
        content: &[u8],
        owner: FileOwner,
    ) -> Result<(), OpsError> {
        let action = format!("write {path} of instance {}", instance.name);
        let mut request = Request::new(Method::POST, file_path(instance, path))
            .header("Content-Type", "application/octet-stream")
            .header("X-Incus-type", "file")
            .header("X-Incus-write", "overwrite")
            .header("X-Incus-uid", owner.uid.to_string())
            .header("X-Incus-gid", owner.gid.to_string())
            .header("X-Incus-mode", format!("{:04o}", owner.mode));
        request.body = Some(content.to_vec());
        match self.repeat(&action, Trouble::is_transient, || self.client.ask(&request)) {
            Ok(_) => Ok(()),
            Err(trouble) if trouble.is_missing() => Err(OpsError::NotFound {
                what: "file",
                name: format!("{path} of instance {}", instance.name),
            }),
            Err(trouble) => Err(self.explain(&action, trouble)),
        }
    }

    /// Makes a directory of a guest, below one that is there. One that is there already is left as it is.
    ///
    /// # Errors
    ///
    /// As [`push_file`](Self::push_file).
    pub fn push_dir(&self, instance: &InstanceRef, path: &str, owner: FileOwner) -> Result<(), OpsError> {
        let action = format!("make {path} of instance {}", instance.name);
        let request = Request::new(Method::POST, file_path(instance, path))
            .header("X-Incus-type", "directory")
            .header("X-Incus-uid", owner.uid.to_string())
            .header("X-Incus-gid", owner.gid.to_string())
            .header("X-Incus-mode", format!("{:04o}", owner.mode));
        match self.repeat(&action, Trouble::is_transient, || self.client.ask(&request)) {
            Ok(_) => Ok(()),
            Err(Trouble::Api { message, .. }) if message.contains("exists") => Ok(()),
            Err(trouble) if trouble.is_missing() => Err(OpsError::NotFound {
                what: "file",
                name: format!("{path} of instance {}", instance.name),
            }),
            Err(trouble) => Err(self.explain(&action, trouble)),
        }
    }

    /// What is at a path in a guest; a symbolic link at its end is not followed.
    pub(crate) fn look(&self, instance: &InstanceRef, path: &str) -> Result<Found, Trouble> {
        let mut response = self.client.fetch(&Request::get(file_path(instance, path)))?;
        let kind = response.headers().get("x-incus-type").and_then(|kind| kind.to_str().ok());
        match kind {
            Some("file") => Ok(Found::File(response)),
            Some("symlink") => Ok(Found::Symlink),
            Some("directory") => {
                let body = response.body_mut().with_config().limit(LISTING_LIMIT).read_to_vec();
                let body = body.map_err(|error| self.client.trouble(error))?;
                let listing: Value =
                    serde_json::from_slice(&body).map_err(|error| Trouble::Garbled(error.to_string()))?;
                let names = listing.get("metadata").and_then(Value::as_array).into_iter().flatten();
                Ok(Found::Directory(names.filter_map(|name| name.as_str().map(str::to_owned)).collect()))
            }
            _ => Ok(Found::Other),
        }
    }

    /// Hands everything of a recorded output that lies behind `offset` to `take`, in pieces;
    /// returns how much that was. Nothing new, and no such output, is 0.
    pub(crate) fn read_output(
        &self,
        instance: &InstanceRef,
        file: &str,
        offset: u64,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u64, OutputTrouble> {
        let path = instance.path(&format!("/logs/exec-output/{}", quoted(file)));
        let request = Request::get(path).header("Range", format!("bytes={offset}-"));
        let response = match self.client.fetch(&request) {
            Ok(response) => response,
            Err(trouble) if trouble.is_missing() => return Ok(0),
            Err(trouble) => return Err(OutputTrouble::Source(trouble, 0)),
        };
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(0);
        }
        // Without a range the answer begins at the start of the file.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { offset };
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 64 * 1024];
        let mut taken = 0;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(taken),
                Ok(count) => count,
                Err(error) => return Err(OutputTrouble::Source(self.client.broken(error), taken)),
            };
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(count);
            skip -= skipped as u64;
            take(&buffer[skipped..count]).map_err(OutputTrouble::Sink)?;
            taken += (count - skipped) as u64;
        }
    }
}

/// Why an output could not be read on.
#[derive(Debug)]
pub(crate) enum OutputTrouble {
    /// Incus, with what had been handed on before.
    Source(Trouble, u64),
    /// Whoever takes it.
    Sink(io::Error),
}

pub(crate) fn file_path(instance: &InstanceRef, path: &str) -> String {
    format!("{}&path={}", instance.path("/files"), quoted(path))
}
