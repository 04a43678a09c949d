//! A shell in a guest that is there: one that was kept, or whose job is still at work.

use std::path::Path;

use pika_cloud::ops::{Attach, Console, Incus, InstanceRef};

use super::keep::{Keeping, RENEWED};
use super::{Opened, Shell, Tell};
use crate::beneath;
use crate::engine::EngineError;
use crate::executor::command::compile;
use crate::executor::incus::{GuestIntent, WORKSPACE, shell_environment};
use crate::run::guests::Problem;
use crate::run::reap::{ReapOptions, reaper};

/// Uid of those jobs that are not run as root.
const UNPRIVILEGED: u32 = 1000;

/// Its group where the guest does not know it.
const USERS: u32 = 100;

/// Starts what is wanted as jobs see the guest: with the certificates that it has.
const START: &str = r#"
for bundle in /etc/ssl/certs/ca-bundle.crt /etc/ssl/certs/ca-certificates.crt; do
  [ -r "$bundle" ] || continue
  export SSL_CERT_FILE="$bundle" NIX_SSL_CERT_FILE="$bundle"
  break
done
[ "$#" -gt 0 ] && exec "$@"
shell=$(command -v bash) && exec "$shell" -i
exec /bin/sh -i
"#;

/// Opens a shell in the guest of the job; nothing when that is gone.
pub(super) fn open(
    shell: &Shell<'_>,
    console: &mut dyn Console,
    tell: &mut Tell<'_>,
) -> Result<Option<i32>, EngineError> {
    let run = shell.layout().run(&shell.request.run_id);
    let job_dir = run.job(&shell.job.id);
    let Some(intent) = GuestIntent::load(job_dir.dir()) else { return Ok(None) };
    let Some((reaper, _)) = reaper(shell.engine, &ReapOptions::default(), shell.cancel)? else {
        return Ok(None);
    };
    let refused = |problem: Problem| shell.refused(&reaper, &intent.place, problem);
    let incus = reaper.incus(&intent.place, shell.cancel).map_err(refused)?;
    let instance = InstanceRef { project: intent.place.project.clone(), name: intent.instance.clone() };
    // One that was stopped is started: it was kept to be looked at.
    match incus.start(&instance) {
        Ok(()) => {}
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(refused(error.into())),
    }
    // A state root may have come with a tree: nothing is written through a link.
    let real = beneath::walk(run.dir(), &Path::new("jobs").join(&shell.job.id), false).is_ok();
    let noted = real.then(|| job_dir.dir());
    let keeping = Keeping::begin(&incus, &instance, noted, &shell.engine.clock, RENEWED);
    let _keeping = keeping.map_err(|error| refused(error.into()))?;
    tell(&format!("in the guest {} of the job, as it was left", instance.name));
    attach(shell, &incus, &instance, (console, &refused)).map(Some)
}

/// Runs what is wanted at the terminal, as the user of the job, in its workspace.
pub(super) fn attach(
    shell: &Shell<'_>,
    incus: &Incus,
    instance: &InstanceRef,
    (console, refused): (&mut dyn Console, &dyn Fn(Problem) -> EngineError),
) -> Opened {
    let job = shell.job;
    let is_root = compile(&job.command).is_ok_and(|compiled| compiled.run_as_root);
    let users = incus.read_file(instance, "/etc/passwd").map_err(|error| refused(error.into()))?;
    let users = String::from_utf8_lossy(&users.unwrap_or_default()).into_owned();
    let uid = if is_root { 0 } else { UNPRIVILEGED };
    let user = User::find(&users, uid);
    let mut environment = shell_environment(job, &shell.engine.config).map_err(|why| shell.error(why))?;
    for (name, value) in [("HOME", user.home), ("USER", user.name.clone()), ("LOGNAME", user.name)] {
        environment.entry(name.to_owned()).or_insert(value);
    }
    if let Some(term) = &shell.request.term {
        environment.insert("TERM".to_owned(), term.clone());
    }
    let start = ["/bin/sh", "-c", START, "sh"].map(str::to_owned);
    let attach = Attach {
        command: start.into_iter().chain(shell.request.command.iter().cloned()).collect(),
        environment,
        cwd: Some(WORKSPACE.to_owned()),
        user: Some((uid, user.gid)),
    };
    incus.attach(instance, &attach, console).map_err(|error| refused(error.into()))
}

/// A user of a guest.
#[derive(Debug, PartialEq, Eq)]
struct User {
    name: String,
    gid: u32,
    home: String,
}

impl User {
    /// The user with this uid, by the words of `/etc/passwd`.
    fn find(users: &str, uid: u32) -> Self {
        let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let found = fields.filter(|user| user.len() >= 7).find(|user| user[2].parse() == Ok(uid));
        match (found, uid) {
            (Some(user), _) => Self {
                name: user[0].to_owned(),
                gid: user[3].parse().unwrap_or(USERS),
                home: user[5].to_owned(),
            },
            (None, 0) => Self { name: "root".to_owned(), gid: 0, home: "/root".to_owned() },
            (None, uid) => Self { name: uid.to_string(), gid: USERS, home: "/".to_owned() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_a_job_is_found_by_its_uid() {
        let users = "root:x:0:0:root:/root:/bin/bash\nbroken:x\nci:x:1000:1001:,,:/home/ci:/bin/sh\n";
        let user = |name: &str, gid, home: &str| User { name: name.to_owned(), gid, home: home.to_owned() };
        assert_eq!(User::find(users, 1000), user("ci", 1001, "/home/ci"));
        assert_eq!(User::find(users, 0), user("root", 0, "/root"));
        assert_eq!(User::find("", 0), user("root", 0, "/root"));
        assert_eq!(User::find("", 1000), user("1000", 100, "/"));
    }
}
