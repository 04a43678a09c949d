//! Settings of where jobs run: Incus here, and other machines over SSH.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use jerichoci::EngineConfig;
use jerichoci::config::{DiskBudget, HostConfig, HostsConfig, IncusConfig};
use jerichoci::model::job::JobRuntimeKind;
use jerichoci::run::outputs::staged_linux_remote_defaults;
use pika_incus_guest_role::IncusGuestRole;

use super::{Origin, Setting, Surroundings, variables};
use crate::error::CliError;
use crate::operator::{self, IncusHostConfig, Operator};

/// Of such options, in help.
pub(crate) const HEADING: &str = "Where jobs run";

/// What the member of a cluster that instances go to is recorded as. A flag is for every machine.
pub(crate) const INCUS_TARGET: &str = "incus.target";

/// What the command line says about where jobs run.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct HostFlags {
    /// Project of Incus for the instances of jobs, on every machine
    #[arg(long, value_name = "NAME", value_parser = word, help_heading = HEADING)]
    pub(crate) incus_project: Option<String>,
    /// Profile of Incus for the instances of jobs, on every machine
    #[arg(long, value_name = "NAME", value_parser = word, help_heading = HEADING)]
    pub(crate) incus_profile: Option<String>,
    /// Image in place of those that jobs name
    #[arg(long, value_name = "ALIAS", value_parser = word, help_heading = HEADING)]
    pub(crate) incus_image_alias: Option<String>,
    /// Cluster member for instances, or group of members as @GROUP
    #[arg(long, value_name = "MEMBER", value_parser = word, help_heading = HEADING)]
    pub(crate) incus_target: Option<String>,
    /// Directory on other hosts for snapshots and outputs, absolute
    #[arg(long, value_name = "DIR", value_parser = place, help_heading = HEADING)]
    pub(crate) remote_work_dir: Option<PathBuf>,
}

/// The value of an option that another program is given.
pub(crate) fn word(text: &str) -> Result<String, String> {
    match operator::is_word(text) {
        true => Ok(text.to_owned()),
        false => Err("one word that does not start with `-`".to_owned()),
    }
}

fn place(text: &str) -> Result<PathBuf, String> {
    match operator::is_place(text.as_ref()) {
        true => Ok(text.into()),
        false => Err("an absolute path, without `..`".to_owned()),
    }
}

/// A setting as it is shown and recorded.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) origin: Origin,
    pub(crate) flag: &'static str,
    pub(crate) variable: &'static str,
}

/// Where instances are made on one machine.
#[derive(Debug, Clone)]
struct IncusSettings {
    project: Setting<Option<String>>,
    profile: Setting<Option<String>>,
    image: Setting<Option<String>>,
    target: Setting<Option<String>>,
    network: Setting<Option<String>>,
    socket: Setting<Option<PathBuf>>,
}

/// One machine that is reached over SSH.
#[derive(Debug, Clone)]
struct HostSettings {
    ssh: Setting<Option<String>>,
    work_dir: Setting<Option<PathBuf>>,
    incus: IncusSettings,
    nix: Setting<Option<String>>,
    allow: Setting<Option<Vec<JobRuntimeKind>>>,
    disk_budget: Setting<Option<DiskBudget>>,
}

/// Everything about where jobs run.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    guest_role: Setting<Option<IncusGuestRole>>,
    local: IncusSettings,
    named: BTreeMap<String, HostSettings>,
    other: HostSettings,
    ssh_program: Setting<Option<OsString>>,
    build_host: Setting<Option<String>>,
    reconnect: Setting<Option<Duration>>,
    runner_dirs: Vec<PathBuf>,
    runner_dir: Setting<Option<PathBuf>>,
}

/// What flags and environment say, for every machine.
struct Outer<'o> {
    flags: &'o HostFlags,
    project: Option<String>,
    profile: Option<String>,
    image: Option<String>,
    work_dir: Option<PathBuf>,
    nix: Option<String>,
}

impl Outer<'_> {
    fn incus(&self, user: &IncusHostConfig, socket: Option<PathBuf>) -> IncusSettings {
        let flags = self.flags;
        IncusSettings {
            project: layers(&flags.incus_project, &self.project, &user.project),
            profile: layers(&flags.incus_profile, &self.profile, &user.profile),
            image: layers(&flags.incus_image_alias, &self.image, &user.image),
            target: layers(&flags.incus_target, &None, &user.target),
            network: layers(&None, &None, &user.network),
            socket: layers(&None, &socket, &user.socket),
        }
    }

    fn host(&self, user: Option<&operator::HostConfig>) -> HostSettings {
        // Of this machine alone is there a socket in the environment.
        let none = IncusHostConfig::default();
        HostSettings {
            ssh: layers(&None, &None, &user.map(|host| host.ssh.clone())),
            work_dir: layers(
                &self.flags.remote_work_dir,
                &self.work_dir,
                &user.and_then(|host| host.work_dir.clone()),
            ),
            incus: self.incus(user.map_or(&none, |host| &host.incus), None),
            nix: layers(&None, &self.nix, &user.and_then(|host| host.nix.clone())),
            allow: layers(&None, &None, &user.map(|host| host.allow.clone())),
            disk_budget: layers(&None, &None, &user.and_then(|host| host.disk_budget)),
        }
    }
}

fn layers<T: Clone>(flag: &Option<T>, environment: &Option<T>, user: &Option<T>) -> Setting<Option<T>> {
    let candidates = [(flag, Origin::Flag), (environment, Origin::Environment), (user, Origin::UserFile)];
    let found = candidates.into_iter().find(|(value, _)| value.is_some());
    match found {
        Some((value, origin)) => Setting { value: value.clone(), origin },
        None => Setting { value: None, origin: Origin::Default },
    }
}

impl Places {
    /// Puts the layers together.
    pub(super) fn resolve(
        surroundings: &Surroundings,
        flags: &HostFlags,
        operator: &Operator,
    ) -> Result<Self, CliError> {
        let outer = Outer {
            flags,
            project: surroundings.word(variables::INCUS_PROJECT)?,
            profile: surroundings.word(variables::INCUS_PROFILE)?,
            image: surroundings.word(variables::INCUS_IMAGE_ALIAS)?,
            work_dir: surroundings.remote_work_dir()?,
            nix: surroundings.word(variables::SSH_NIX_BINARY)?,
        };
        let runner_dir = surroundings.guest_runner_dir()?;
        let runner_dirs = match &runner_dir {
            Some(named) => vec![named.clone()],
            None => surroundings.usual_runner_dirs(),
        };
        Ok(Self {
            guest_role: layers(&None, &surroundings.guest_role()?, &None),
            local: outer.incus(&operator.incus, surroundings.incus_socket()?),
            named: operator.hosts.iter().map(|(name, host)| (name.clone(), outer.host(Some(host)))).collect(),
            other: outer.host(None),
            ssh_program: layers(&None, &surroundings.ssh_program()?, &None),
            build_host: layers(&None, &surroundings.word(variables::SSH_HOST)?, &None),
            reconnect: layers(&None, &surroundings.reconnect()?, &None),
            runner_dirs,
            runner_dir: layers(&None, &runner_dir, &None),
        })
    }

    /// Of this machine, as the engine takes it.
    pub(super) fn incus(&self) -> IncusConfig {
        self.local.config(self.guest_role.value)
    }

    /// Of the others, as the engine takes it.
    pub(crate) fn hosts(&self) -> HostsConfig {
        let standard = HostsConfig::default();
        let host = |name: &str, host: &HostSettings| host.config(name, self.guest_role.value);
        HostsConfig {
            named: self.named.iter().map(|(name, settings)| (name.clone(), host(name, settings))).collect(),
            other: host("", &self.other),
            ssh_program: self.ssh_program.value.clone().unwrap_or(standard.ssh_program),
            connect: standard.connect,
            reconnect: self.reconnect.value.unwrap_or(standard.reconnect),
            runner_dirs: self.runner_dirs.clone(),
        }
    }

    /// The host that stands for the built-in name of the build host, when another one was named.
    pub(crate) fn build_host(&self) -> Option<&str> {
        self.build_host.value.as_deref()
    }

    /// Where the SSH program, the name of the build host, and the work directory of this host come from.
    pub(super) fn ssh_origins(&self, host: &str) -> [Origin; 3] {
        let work_dir = self.named.get(host).unwrap_or(&self.other).work_dir.origin;
        [self.ssh_program.origin, self.build_host.origin, work_dir]
    }

    /// Runtimes that a host takes.
    pub(crate) fn allowed(&self, host: &str) -> Vec<JobRuntimeKind> {
        self.named.get(host).unwrap_or(&self.other).config(host, None).allow
    }

    /// Image of jobs that name neither an image nor a role, on this machine or on a host.
    pub(crate) fn image(&self, host: Option<&str>) -> Option<&str> {
        let incus = match host {
            None => &self.local,
            Some(name) => &self.named.get(name).unwrap_or(&self.other).incus,
        };
        // The outer layers are stronger than what a job names, and reach the engine as such.
        incus.image.value.as_deref().filter(|_| incus.image.origin == Origin::UserFile)
    }

    /// Has the images of the user's file stand for those of jobs that name none, on every machine.
    pub(crate) fn put_images(&self, config: &mut EngineConfig) {
        let put = |incus: &mut IncusConfig, host| {
            if incus.image_alias.is_none() && incus.guest_role.is_none() {
                incus.image_alias = self.image(host).map(str::to_owned);
            }
        };
        put(&mut config.incus, None);
        for (name, host) in &mut config.hosts.named {
            put(&mut host.incus, Some(name));
        }
    }

    /// As they are shown.
    pub(super) fn shown(&self) -> Vec<Shown> {
        let mut rows = Rows(Vec::new());
        let role = self.guest_role.value.map(|role| role.as_str().to_owned());
        rows.add(
            "incus.guest_role",
            role.unwrap_or_else(|| "that of the job".to_owned()),
            &self.guest_role,
            "",
            variables::INCUS_GUEST_ROLE,
        );
        rows.incus("", &self.local, &self.local.config(None));
        let hosts = self.hosts();
        rows.add(
            "ssh_program",
            hosts.ssh_program.to_string_lossy().into_owned(),
            &self.ssh_program,
            "",
            variables::SSH_BINARY,
        );
        rows.add(
            "build_host",
            self.build_host().unwrap_or(staged_linux_remote_defaults().ssh_host).to_owned(),
            &self.build_host,
            "",
            variables::SSH_HOST,
        );
        rows.add(
            "reconnect_secs",
            hosts.reconnect.as_secs().to_string(),
            &self.reconnect,
            "",
            variables::RECONNECT_SECS,
        );
        let runner_dirs: Vec<_> = self.runner_dirs.iter().map(|path| path.to_string_lossy()).collect();
        let runner_dirs = if runner_dirs.is_empty() { "none".to_owned() } else { runner_dirs.join(", ") };
        rows.add("guest_runner_dirs", runner_dirs, &self.runner_dir, "", variables::GUEST_RUNNER_DIR);
        for (name, host) in &self.named {
            rows.host(&format!("hosts.{name}."), host, &hosts.get(name));
        }
        // Hosts that have no table. Where nothing is said about their Incus, it is as above.
        let told = rows.0.len();
        rows.host("hosts.*.", &self.other, &hosts.other);
        let others = rows.0.split_off(told);
        let silent = |shown: &Shown| shown.origin == Origin::Default && shown.name.contains(".incus.");
        rows.0.extend(others.into_iter().filter(|shown| !silent(shown)));
        rows.0
    }
}

impl IncusSettings {
    fn config(&self, guest_role: Option<IncusGuestRole>) -> IncusConfig {
        let standard = IncusConfig::default();
        IncusConfig {
            socket: self.socket.value.clone().unwrap_or(standard.socket),
            project: self.project.value.clone().unwrap_or(standard.project),
            profile: self.profile.value.clone().unwrap_or(standard.profile),
            guest_role,
            image_alias: self.image.value.clone().filter(|_| self.image.origin != Origin::UserFile),
            target: self.target.value.clone(),
            target_of_all: self.target.origin == Origin::Flag,
            network: self.network.value.clone(),
        }
    }
}

impl HostSettings {
    fn config(&self, name: &str, guest_role: Option<IncusGuestRole>) -> HostConfig {
        let standard = HostConfig::new(name);
        HostConfig {
            ssh: self.ssh.value.clone().unwrap_or(standard.ssh),
            work_dir: self.work_dir.value.clone().unwrap_or(standard.work_dir),
            incus: self.incus.config(guest_role),
            allow: self.allow.value.clone().unwrap_or(standard.allow),
            disk_budget: self.disk_budget.value.unwrap_or(standard.disk_budget),
            min_free: standard.min_free,
            nix_program: self.nix.value.clone().unwrap_or(standard.nix_program),
        }
    }
}

/// Rows in the making.
struct Rows(Vec<Shown>);

impl Rows {
    fn add<T>(
        &mut self,
        name: &str,
        value: String,
        of: &Setting<T>,
        flag: &'static str,
        variable: &'static str,
    ) {
        self.0.push(Shown { name: name.to_owned(), value, origin: of.origin, flag, variable });
    }

    fn incus(&mut self, of: &str, settings: &IncusSettings, config: &IncusConfig) {
        let name = |key: &str| format!("{of}incus.{key}");
        let or = |value: &Option<String>, words: &str| value.clone().unwrap_or_else(|| words.to_owned());
        let socket = config.socket.to_string_lossy().into_owned();
        self.add(
            &name("project"),
            config.project.clone(),
            &settings.project,
            "--incus-project",
            variables::INCUS_PROJECT,
        );
        self.add(
            &name("profile"),
            config.profile.clone(),
            &settings.profile,
            "--incus-profile",
            variables::INCUS_PROFILE,
        );
        self.add(
            &name("image"),
            or(&settings.image.value, "that of the role"),
            &settings.image,
            "--incus-image-alias",
            variables::INCUS_IMAGE_ALIAS,
        );
        self.add(
            &name("target"),
            or(&config.target, "chosen by Incus"),
            &settings.target,
            "--incus-target",
            "",
        );
        self.add(&name("network"), or(&config.network, "that of the profile"), &settings.network, "", "");
        self.add(&name("socket"), socket, &settings.socket, "", variables::INCUS_SOCKETS);
    }

    fn host(&mut self, of: &str, settings: &HostSettings, config: &HostConfig) {
        let name = |key: &str| format!("{of}{key}");
        if settings.ssh.value.is_some() {
            self.add(&name("ssh"), config.ssh.clone(), &settings.ssh, "", "");
        }
        let work_dir = config.work_dir.to_string_lossy().into_owned();
        self.add(
            &name("work_dir"),
            work_dir,
            &settings.work_dir,
            "--remote-work-dir",
            variables::REMOTE_WORK_DIR,
        );
        self.incus(of, &settings.incus, &config.incus);
        self.add(&name("nix"), config.nix_program.clone(), &settings.nix, "", variables::SSH_NIX_BINARY);
        let allow = operator::words_of(&config.allow).join(", ");
        self.add(&name("allow"), allow, &settings.allow, "", "");
        let budget = match config.disk_budget {
            DiskBudget::Percent(percent) => format!("{percent}%"),
            DiskBudget::Bytes(bytes) => format!("{}MiB", bytes >> 20),
        };
        self.add(&name("disk_budget"), budget, &settings.disk_budget, "", "");
    }
}
