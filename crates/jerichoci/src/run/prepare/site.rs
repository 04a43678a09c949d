//! Where outputs are realised: nix of one machine, with the places it is given there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jericho_host::{CancelToken, Environment, Host, HostError};

use super::roots::{may_have_guest, rooted_on, tidy};
use crate::causes::with_causes;
use crate::executor::host_tree::HostTree;
use crate::executor::process::JOB_TAG;
use crate::executor::workspace::RunSource;
use crate::executor::{JobLog, Tools};
use crate::model::job::JobPlacement;
use crate::model::outcome::JobOutcome;
use crate::remote::{BuildHost, Ready, RemoteError};
use crate::run::layout::{Layout, RunLayout};
use crate::run::outputs::OutputsError;
use crate::run::outputs::copy::FarStore;
use crate::run::outputs::realize::{Locks, NixOnHost, RealizeError, Realized, Realizer, SourceTree, Wanted};
use crate::run::outputs::transport::{Endpoint, Route};

/// Where nix is looked for on a host whose settings name no path.
const PATH: &str =
    "/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:/usr/local/bin:/usr/bin:/bin";

/// One machine, as all prepare nodes of a run share it.
pub(crate) struct Site {
    pub(super) realizer: Realizer,
    /// Directory there of the links that keep what this run needs.
    pub(super) roots: PathBuf,
    machine: Machine,
}

enum Machine {
    This,
    Host(Arc<BuildHost>, Ready),
}

/// Which output of which source, and for whom.
pub(super) struct Realization<'a> {
    pub(super) source: &'a RunSource,
    pub(super) tools: &'a Tools,
    pub(super) output_name: &'a str,
    /// Name of the link that keeps it.
    pub(super) node_id: &'a str,
    /// Name of the lease of a tree on a host.
    pub(super) lease_id: &'a str,
    /// Marks every process of it.
    pub(super) tag: &'a str,
}

/// The machines of one run, by the name of the host; without a name this one.
#[derive(Default)]
pub(crate) struct Sites {
    made: Mutex<BTreeMap<Option<String>, Arc<Site>>>,
    /// Directories of the run on hosts that outputs were handed over on, by the name of the host.
    handed: Mutex<BTreeMap<(String, PathBuf), Arc<dyn Host>>>,
    /// Work directories on hosts that were checked, as they are set and as they are.
    checked: Mutex<BTreeMap<(String, PathBuf), PathBuf>>,
}

impl Sites {
    /// The machine of a placement, ready to be asked.
    pub(super) fn get(
        &self,
        placement: &JobPlacement,
        (tools, run, run_id): (&Tools, &RunLayout, &str),
        log: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<Arc<Site>, JobOutcome> {
        let name = match placement {
            JobPlacement::Local => None,
            JobPlacement::RemoteSsh { host } => Some(host.clone()),
        };
        if let Some(site) = self.made().get(&name) {
            return Ok(Arc::clone(site));
        }
        let roots = |work_dir: Option<&Path>| match work_dir {
            None => run.roots(),
            // By engine, so that each finds its own.
            Some(dir) => dir.join("runs").join(run_id).join("roots").join(tools.hosts.engine_id()),
        };
        let site = Site::of(name.as_deref(), tools, roots, log, cancel)?;
        // Another node may have been faster.
        Ok(Arc::clone(self.made().entry(name).or_insert_with(|| Arc::new(site))))
    }

    /// The host of a transport, and the work directory there without links. Nobody else may write below it: the
    /// launcher is told there which program to start.
    pub(super) fn endpoint(
        &self,
        route: &mut Route,
        tools: &Tools,
        cancel: &CancelToken,
    ) -> Result<Endpoint, OutputsError> {
        let failed = |error: RemoteError| match error {
            RemoteError::Cancelled(reason) => OutputsError::Host(HostError::Cancelled(reason)),
            error => OutputsError::Invalid(error.told()),
        };
        let host = tools.hosts.get_by(&route.host, route.program.as_deref()).map_err(failed)?;
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = (route.host.clone(), route.work_dir.clone());
        route.work_dir = match checked.get(&asked) {
            Some(dir) => dir.clone(),
            None => {
                let dir = host.check_dir(&route.work_dir, cancel).map_err(failed)?;
                checked.insert(asked, dir.clone());
                dir
            }
        };
        drop(checked);
        let nix = PathBuf::from(&host.config().nix_program);
        let env = launcher_env(&nix);
        let (ssh, destination) = host.ssh().for_other_programs();
        let store = FarStore {
            name: route.host.clone(),
            ssh,
            destination: destination.to_owned(),
            nix,
            env: remote_env(),
        };
        let host = Arc::clone(host.ssh()) as Arc<dyn Host>;
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = handed.insert((route.host.clone(), route.run_dir()), Arc::clone(&host)).is_none();
        drop(handed);
        if is_new {
            // By it a later run finds what this one leaves when it is killed.
            host.make_dirs(&route.run_dir().join("roots").join(tools.hosts.engine_id()))?;
        }
        Ok(Endpoint { host, env, store })
    }

    /// Lets go of everything that the run has on any machine for its outputs, but for what keeps them in the store
    /// where a guest of it is left.
    pub(super) fn release(&self, tools: &Tools, run: &RunLayout) -> Result<(), String> {
        let layout = Layout::new(&tools.config.state_root);
        let mut problems = Vec::new();
        let mut dirs: BTreeMap<(String, PathBuf), Arc<dyn Host>> =
            std::mem::take(&mut *self.handed.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, site) in &*self.made() {
            let host = &site.realizer.nix().host;
            match (name, site.roots.ancestors().nth(2)) {
                (Some(name), Some(run)) => {
                    dirs.insert((name.clone(), run.to_path_buf()), Arc::clone(host));
                }
                _ if may_have_guest(run, None) => {}
                _ => problems.extend(host.remove(&site.roots).err().map(|error| with_causes(&error))),
            }
        }
        for ((name, dir), host) in dirs {
            problems.extend(tidy(&*host, &dir, may_have_guest(run, Some(&name))).err());
            // Also where the host is not made ready, or in another directory than its own.
            let dead = dir.parent().map(|runs| rooted_on(&host, runs, tools.hosts.engine_id(), &layout));
            problems.extend(dead.iter().flatten().filter_map(|dead| dead.let_go(Some(&name)).err()));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    fn made(&self) -> std::sync::MutexGuard<'_, BTreeMap<Option<String>, Arc<Site>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nix of this machine, with what it needs below the state root.
fn local_nix(tools: &Tools) -> NixOnHost {
    let config = &tools.config;
    let own = Layout::new(&config.state_root).nix();
    let locks = user_cache(&config.caller_environment).map_or_else(|| own.clone(), |dir| dir.join("nix"));
    NixOnHost {
        host: Arc::clone(&tools.host),
        program: config.nix_program.clone(),
        // Nix runs as the caller does; its builders do not see that environment.
        env: config.caller_environment.clone(),
        sources: own.join("sources"),
        // Below the state root, runs of two state roots would not know of each other.
        locks: Locks::Here(locks.join("locks")),
        grace: config.grace,
        answer_limit: config.outputs.answer_limit,
    }
}

/// Where programs of the user keep what only costs time when it is lost.
fn user_cache(env: &Environment) -> Option<PathBuf> {
    let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let dir = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    let dir = dir.join("jerichoci");
    std::fs::create_dir_all(&dir).is_ok().then_some(dir)
}

/// What programs of a host are started with.
pub(super) fn remote_env() -> Environment {
    [("PATH", PATH)].into_iter().collect()
}

/// What a launcher of a host is started with: its helper asks nix where the store is.
fn launcher_env(nix: &Path) -> Environment {
    let dir = nix.parent().filter(|_| nix.is_absolute()).and_then(Path::to_str);
    let path = dir.map_or_else(|| PATH.to_owned(), |dir| format!("{dir}:{PATH}"));
    [("PATH", path)].into_iter().collect()
}

fn nix_of(host: &Arc<BuildHost>, ready: &Ready, tools: &Tools) -> NixOnHost {
    NixOnHost {
        host: Arc::clone(host.ssh()) as Arc<dyn Host>,
        program: PathBuf::from(&host.config().nix_program),
        env: remote_env(),
        sources: ready.work_dir.join("cache").join("nix-sources"),
        locks: Locks::OnHost(ready.work_dir.join("locks")),
        grace: tools.config.grace,
        answer_limit: tools.config.outputs.answer_limit,
    }
}

impl Site {
    /// A machine, ready to be asked. `roots` is told the work directory of a host, and says where the links lie that
    /// keep outputs.
    pub(super) fn of(
        name: Option<&str>,
        tools: &Tools,
        roots: impl FnOnce(Option<&Path>) -> PathBuf,
        log: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<Self, JobOutcome> {
        let Some(name) = name else {
            let realizer = Realizer::new(local_nix(tools));
            return Ok(Self { realizer, roots: roots(None), machine: Machine::This });
        };
        let host = tools.hosts.get(name).map_err(|error| error.outcome())?;
        let ready = host.ready(log, cancel).map_err(|error| error.outcome())?;
        Ok(Self {
            realizer: Realizer::new(nix_of(&host, &ready, tools)),
            roots: roots(Some(&ready.work_dir)),
            machine: Machine::Host(host, ready),
        })
    }

    /// Realises an output there, and keeps it.
    pub(super) fn realize(
        &self,
        of: &Realization<'_>,
        log: &mut dyn JobLog,
        cancel: &CancelToken,
    ) -> Result<Realized, RealizeError> {
        // The realizer has the log while it asks for the tree.
        let said = Mutex::new(Vec::new());
        let tree = |cancel: &CancelToken| {
            let mut tell =
                |line: &str| said.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
            self.tree(of.source, of.tools, of.lease_id, &mut tell, cancel)
        };
        let wanted = Wanted {
            content_hash: of.source.content_hash(),
            tree: &tree,
            output_name: of.output_name,
            root: &self.roots.join(of.node_id),
            tag: (JOB_TAG, of.tag),
        };
        let realized = self.realizer.realize(&wanted, log, cancel);
        for line in said.into_inner().unwrap_or_else(PoisonError::into_inner) {
            // Nobody waits for it: a log that cannot be written shows with the next one that matters.
            let _ = log.engine_line(&line);
        }
        realized
    }

    /// The source tree there.
    pub(super) fn tree(
        &self,
        source: &RunSource,
        tools: &Tools,
        lease_id: &str,
        log: &mut dyn FnMut(&str),
        cancel: &CancelToken,
    ) -> Result<SourceTree, String> {
        let (host, ready) = match &self.machine {
            Machine::This => {
                let lease = source.tree(cancel).map_err(|error| with_causes(&error))?;
                return Ok(SourceTree { path: lease.path.clone(), held: Box::new(lease) });
            }
            Machine::Host(host, ready) => (host, ready),
        };
        let mut held = HeldTree(HostTree::of((host, ready), source, tools, lease_id));
        held.0.deliver(source, tools, log, cancel).map_err(|error| with_causes(&error))?;
        Ok(SourceTree { path: held.0.path().to_owned(), held: Box::new(held) })
    }
}

/// A tree on a host that nobody collects until this is dropped.
struct HeldTree(HostTree);

impl Drop for HeldTree {
    fn drop(&mut self) {
        // A lease that is not given back ends with its engine.
        let Ok(cancel) = CancelToken::new() else { return };
        let _ = self.0.release(&cancel);
    }
}
