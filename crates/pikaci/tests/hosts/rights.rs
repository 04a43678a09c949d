//! An account that may log in to a host and may not use the socket of Incus there.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jericho_host::{Clock as _, SystemClock};
use jericho_testkit::incus::Rig;
use jericho_testkit::ssh;

use crate::common::Ended;
use crate::place::Place;

const TARGETS: &str = "
[targets.good.jobs.guest]
runtime = \"incus\"
command = \"true\"
[targets.bad.jobs.guest]
runtime = \"incus\"
command = \"exit 3\"
";

/// Neither root nor anybody's group.
const SOMEBODY: u32 = 65533;

/// Passes on what comes to a socket of its own, for as long as this process lives: the mode of that of the rig, which
/// all tests share, stays what it is.
fn relay(to: &Path, at: PathBuf) -> PathBuf {
    let listener = UnixListener::bind(&at).unwrap();
    let to = to.to_owned();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = UnixStream::connect(&to).unwrap();
            for (mut from, mut into) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                std::thread::spawn(move || {
                    // Who has gone wants no more of it.
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    at
}

/// Runs it, and holds that nobody waits for the socket as for a connection that was lost.
fn soon(place: &Place<'_>, args: &[&str]) -> Ended {
    let begun = SystemClock.monotonic();
    let ended = place.pikaci(args);
    let spent = SystemClock.monotonic().saturating_sub(begun);
    assert!(spent < Duration::from_secs(30), "{args:?} took {spent:?}: {ended:#?}");
    ended
}

#[test]
fn an_account_without_the_right_to_the_socket_of_a_host_is_told_so_with_what_lets_it_in() {
    let name = "an_account_without_the_right_to_the_socket_of_a_host_is_told_so_with_what_lets_it_in";
    let (Some(rig), Some(sshd)) = (Rig::up(name), ssh::Rig::start_without_rights(name)) else { return };
    let Some(place) = Place::real(name, &rig, &sshd, TARGETS) else { return };
    let socket = relay(rig.socket(), place.project.dir().join("incus.socket"));
    let file = place.tree.outside().join("config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (usual, own) = (rig.socket().to_str().unwrap(), socket.to_str().unwrap());
    std::fs::write(&file, text.replace(usual, own)).unwrap();
    // As long as it is the account's own, all is well.
    place.pikaci(&["run", "good", "--on", "box"]).code(0);
    place.pikaci(&["run", "bad", "--on", "box", "--keep-on-failure"]).code(1);
    let kept = place.project.instances().unwrap();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let listed = place.pikaci(&["list", "--kept"]).code(0).stdout;
    let run = listed.split('\t').next().unwrap();

    std::os::unix::fs::chown(&socket, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o660)).unwrap();
    let grant = "ssh rig 'usermod -aG incus-admin root'; then log in anew";
    let told = |text: &str| {
        assert!(text.contains("root has no right to use Incus at ") && text.contains(own), "{text}");
        assert!(text.contains(grant), "{text}");
    };
    let doctor = soon(&place, &["doctor", "box"]).code(3);
    told(&doctor.stdout);
    told(&soon(&place, &["run", "good", "--on", "box"]).code(3).stderr);
    for args in [
        &["shell", run, "guest", "--", "true"][..],
        &["shell", run, "guest", "--fresh", "--", "true"],
        &["reap"],
        &["reap", "--host", "box"],
        &["list", "--kept"],
    ] {
        let ended = soon(&place, args);
        assert_eq!(ended.code, Some(3), "{args:?}: {ended:#?}");
        told(&ended.stderr);
    }
    told(&soon(&place, &["gc"]).stderr);
    assert_eq!(place.project.instances().unwrap(), kept, "a guest was half made");

    // With the right all goes on as before.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    place.pikaci(&["doctor", "box"]).code(0);
    place.pikaci(&["run", "good", "--on", "box"]).code(0);
}
