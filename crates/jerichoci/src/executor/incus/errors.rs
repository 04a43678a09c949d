//! What to tell of an operation on Incus that failed: the thing it is about, and the way out.

use std::path::Path;

use jericho_host::CancelToken;
use pika_cloud::ops::OpsError;
use pika_incus_guest_role::IncusGuestRole;

use super::intent::GuestPlace;
use super::place::Place;
use super::spec::Image;
use crate::causes::with_causes;
use crate::doctor::facts::Facts;
use crate::doctor::mend::{Mend, disk_paths, is_not_forwarded, quoted};
use crate::remote::Hosts;

/// The error that matters, and of an instance that is still there although it should not: its name, and why.
pub(super) fn left_behind(error: OpsError) -> (OpsError, Option<(String, String)>) {
    match error {
        OpsError::LeftBehind { instance, cleanup, error } => {
            (*error, Some((instance, with_causes(&*cleanup))))
        }
        other => (other, None),
    }
}

/// The same as [`explain`] for who looks at guests that were made before.
pub(crate) fn explain_at(
    place: &GuestPlace,
    hosts: &Hosts,
    error: &OpsError,
    cancel: &CancelToken,
) -> String {
    match Place::of_guests(place, hosts, cancel) {
        Ok(place) => explain(error, &place, None, cancel),
        Err(_) => with_causes(error),
    }
}

/// One line for people, which ends with what they can do: what `pikaci doctor` says, too.
pub(super) fn explain(
    error: &OpsError,
    place: &Place,
    image: Option<&Image>,
    cancel: &CancelToken,
) -> String {
    let (mend, config) = (place.mend(), &place.config);
    let what = with_causes(error);
    let hint = match error {
        OpsError::ImageMissing { alias, .. } => {
            let role = image.and_then(|image| image.role).unwrap_or(IncusGuestRole::JerichoRunner);
            format!("build it: {}", mend.image(role, alias))
        }
        OpsError::ProjectMissing { .. } | OpsError::ProfileMissing { .. } => match place.facts(cancel) {
            Some(facts) => format!("make it: {}", mend.set_up(&facts)),
            None => place.doctor(),
        },
        OpsError::NoRights { .. } => match place.facts(cancel) {
            Some(facts) => format!("let the account in: {}", mend.grant(&facts)),
            None => place.doctor(),
        },
        OpsError::Unreachable { socket, .. } => match place.facts(cancel) {
            Some(facts) if mend.destination.is_some() && is_not_forwarded(error, &facts) => {
                let (socket, host) = (socket.display(), place.name());
                let mend = mend.forwarding(&facts);
                return format!(
                    "sshd on {host} does not forward to {socket}, where Incus listens; let it: {mend}"
                );
            }
            Some(facts) => {
                return unreachable(&what, socket, place.name(), &mend, &facts) + "; " + &place.doctor();
            }
            None => place.doctor(),
        },
        OpsError::NetworkMissing { network, .. } => format!("make it: {}", mend.network(network)),
        OpsError::NoNetwork { .. } => {
            format!("make one and name it with `network` of `incus`: {}", mend.network("NAME"))
        }
        OpsError::NotFound { what: "cluster member" | "cluster group with members", .. } => {
            format!("see which there are: {}", mend.incus("cluster list"))
        }
        OpsError::RoleUnknown { .. } => "name a role that there is".to_owned(),
        OpsError::Refused { reason, .. } => {
            let settings = place.incus.project_config(&config.project).ok();
            match settings.and_then(|settings| disk_paths(&settings, mounted(reason, mend.dir)?)) {
                Some(settings) => format!("let the project see the directory: {}", mend.set(&settings)),
                None => {
                    format!(
                        "see what it allows: {}",
                        mend.incus(&format!("project show {}", quoted(&config.project)))
                    )
                }
            }
        }
        _ => return what,
    };
    format!("{what}; {hint}")
}

/// What keeps an Incus that does not answer from it, as its machine sees it: a socket over SSH breaks in all cases.
fn unreachable(what: &str, socket: &Path, host: &str, mend: &Mend<'_>, facts: &Facts) -> String {
    match (facts.get("socket"), facts.is("socket_usable", "yes"), facts.is("incusd", "yes")) {
        (Some(_), true, _) => format!("{what}; restart it: {}", mend.daemon_is_to("restart", facts)),
        (Some(_), false, _) => {
            let account = facts.account();
            let socket = socket.display();
            let grant = mend.grant(facts);
            format!("{account} has no right to use Incus at {socket} on {host}; let the account in: {grant}")
        }
        (None, _, true) => format!("{what}; start it: {}", mend.daemon_is_to("start", facts)),
        (None, _, false) => format!("{what}; install it: {}", mend.set_up(facts)),
    }
}

/// Which directory guests have to see for the source that was refused: the one that all sources lie in, or the store.
fn mounted<'a>(reason: &'a str, dir: &'a Path) -> Option<&'a Path> {
    if !reason.to_lowercase().contains("disk") {
        return None;
    }
    let store = Path::new("/nix/store");
    let source = reason.split('"').map(Path::new).find(|word| word.is_absolute());
    Some(match source {
        Some(source) if source.starts_with(store) => store,
        Some(source) if !source.starts_with(dir) => source,
        _ => dir,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IncusConfig;

    #[test]
    fn what_keeps_an_incus_from_answering_is_told_with_what_mends_it() {
        let config = IncusConfig::default();
        let mend = Mend { destination: Some("u1".to_owned()), incus: &config, dir: Path::new("/w") };
        let told = |said: &str| {
            let facts = Facts::parse(&format!("account=ci\nuid=1001\n{said}"));
            unreachable("no Incus answers", Path::new("/s"), "box", &mend, &facts)
        };
        assert_eq!(
            told("socket=there"),
            "ci has no right to use Incus at /s on box; let the account in: \
             ssh -t u1 'sudo usermod -aG incus-admin ci'; then log in anew"
        );
        assert!(told("socket=hidden").contains("has no right"));
        assert_eq!(
            told("socket=there\nsocket_usable=yes"),
            "no Incus answers; restart it: ssh -t u1 'sudo systemctl restart incus'"
        );
        assert_eq!(told("incusd=yes"), "no Incus answers; start it: ssh -t u1 'sudo systemctl start incus'");
        assert!(told("").contains("; install it: ssh u1 sudo bash -s -- --account ci --project "));
    }

    #[test]
    fn the_directory_that_guests_have_to_see_is_found_in_what_was_refused() {
        let of = |reason: &'static str| mounted(reason, Path::new("/w"));
        assert_eq!(of("Disk source path \"/w/snapshots/a\" not allowed"), Some(Path::new("/w")));
        assert_eq!(of("Disk source path \"/nix/store/a\" not allowed"), Some(Path::new("/nix/store")));
        assert_eq!(of("Disk source path \"/else\" not allowed"), Some(Path::new("/else")));
        assert_eq!(of("disk devices are forbidden"), Some(Path::new("/w")));
        assert_eq!(of("Privileged containers are forbidden"), None);
    }
}
