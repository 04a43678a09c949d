//! The network of a guest: none, unless its job asks.

use std::io::Write;
use std::net::TcpListener;

use jericho_testkit::incus::Rig;
use jericho_testkit::need;
use jerichoci::model::outcome::Verdict;
use serde_json::json;

use crate::rig::{World, guest, incus, job};

/// A managed bridge of the rig, gone with this value.
struct Bridge<'a> {
    rig: &'a Rig,
    name: String,
}

impl<'a> Bridge<'a> {
    fn new(rig: &'a Rig) -> Self {
        let name = format!("jx{}", std::process::id());
        let config = json!({
            "ipv4.address": "none", "ipv6.address": format!("{}/64", Self::address()),
            "ipv6.nat": "false", "ipv6.firewall": "false", "dns.mode": "none",
        });
        let body = json!({ "name": name, "type": "bridge", "config": config });
        rig.ask("POST", "/1.0/networks", Some(&body)).unwrap();
        Self { rig, name }
    }

    /// Its address. A guest makes its own of what it is told of this one.
    fn address() -> String {
        format!("fd97:{:x}::1", std::process::id() & 0xffff)
    }
}

impl Drop for Bridge<'_> {
    fn drop(&mut self) {
        let _ = self.rig.ask("DELETE", &format!("/1.0/networks/{}", self.name), None);
    }
}

#[test]
fn a_job_with_network_reaches_a_server_and_the_same_without_it_does_not() {
    let test = "a_job_with_network_reaches_a_server_and_the_same_without_it_does_not";
    let Some(rig) = Rig::up(test) else { return };
    if !need::needs_program(test, "dnsmasq") {
        return;
    }
    // Gone after the project, whose profile names it in the end.
    let bridge = Bridge::new(&rig);
    let project = rig.project(4).unwrap();
    let Some(mut world) = World::new(&rig, &project, test) else { return };
    world.config.incus.network = Some(bridge.name.clone());
    let server = TcpListener::bind("[::]:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = server.accept() {
            drop(client.write_all(b"reached\n"));
        }
    });
    // An address takes a moment, and what is sent before the bridge's own address is in use is never answered.
    let address = "[ -e /sys/class/net/eth0 ] || { echo offline; exit 7; }; for i in $(seq 20); do \
                   timeout 2 bash -c 'exec 3<>/dev/tcp/$SERVER/$PORT && cat <&3' 2>/dev/null && exit; \
                   sleep 0.1; done; exit 8";
    let mut online = guest("job", address);
    online.env.insert("PORT".to_owned(), port.to_string());
    online.env.insert("SERVER".to_owned(), Bridge::address());
    let offline = online.clone();
    incus(&mut online).network = true;
    let run = world.run(vec![online]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(world.guest_log(&run, "job"), "reached\n");
    let run = world.run(vec![offline.clone()]);
    assert_eq!(job(&run, "job").exit_code, Some(7));

    // Also where the profile has a device of its own.
    let profile = json!({ "config": {}, "devices": {
        "root": { "type": "disk", "path": "/", "pool": rig.pool() },
        "lan": { "type": "nic", "name": "eth0", "network": bridge.name },
    } });
    rig.ask("PUT", &format!("/1.0/profiles/default?project={}", project.name()), Some(&profile)).unwrap();
    let run = world.run(vec![offline]);
    assert_eq!(job(&run, "job").exit_code, Some(7));
    world.assert_nothing_left();
}
