//! What a machine says of itself: one script, one answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jericho_host::{CancelToken, Clock as _, Command, Environment, Host, HostError, SystemClock};

/// Lines `name=value`. It needs a shell, coreutils or busybox, and writes nothing.
const SCRIPT: &str = r#"
dir=$1 socket=$2 nix=$3
home=$(eval echo "~$(id -un)")
PATH=${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/run/current-system/sw/bin:$home/.nix-profile/bin:/nix/var/nix/profiles/default/bin
export PATH
say() { printf '%s=%s\n' "$1" "$2"; }
say clock "$(date +%s)"
say account "$(id -un)"
say uid "$(id -u)"
say arch "$(uname -m)"
up=$dir
if [ -L "$dir" ]; then
  say dir link
elif [ -d "$dir" ]; then
  say dir directory
  say owner "$(stat -c %u "$dir")"
  say owner_name "$(stat -c %U "$dir")"
  say mode "$(stat -c %a "$dir")"
elif [ -e "$dir" ]; then
  say dir other
else
  say dir absent
fi
while [ ! -d "$up" ]; do
  up=${up%/*}
  up=${up:-/}
done
say up "$up"
[ -w "$up" ] && [ -x "$up" ] && say up_writable yes
mount=$(df -Pk "$up" | sed -n '2s/^.*% *//p')
options=$(mount="$mount" awk '{ gsub(/\\040/, " ", $2); if ($2 == ENVIRON["mount"]) is = $4 } END { print is }' /proc/mounts 2>/dev/null)
case ,$options, in
  *,noexec,*) say noexec "$mount" ;;
esac
say inodes "$(df -Pi "$up" 2>/dev/null | awk 'NR == 2 { print $2, $4 }')"
say disk "$(df -Pk "$up" | awk 'NR == 2 { print $2, $4 }')"
if [ -S "$socket" ]; then
  say socket there
  [ -r "$socket" ] && [ -w "$socket" ] && say socket_usable yes
  socket="$socket" awk '$4 == "00010000" && substr($0, length($0) - length(ENVIRON["socket"])) == " " ENVIRON["socket"] { is = 1 }
    END { exit !is }' /proc/net/unix 2>/dev/null && say listening yes
elif ls "$socket" 2>&1 >/dev/null | grep -qi 'permission denied'; then
  say socket hidden
fi
[ -x /usr/libexec/incus/incusd ] || command -v incusd >/dev/null 2>&1 && say incusd yes
command -v "$nix" >/dev/null 2>&1 && say nix "$("$nix" --version 2>&1 | head -n 1)"
hooks=/usr/share/lxc/config/common.conf.d/00-lxcfs.conf
hook=$(sed -n 's/^lxc\.hook\.post-stop *= *//p' "$hooks" 2>/dev/null | head -n 1)
[ -n "$hook" ] && grep -q '^ *sleep' "$hook" 2>/dev/null && say slow_stop "$hooks"
say end yes
"#;

/// What is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Work directory, or state root.
    pub(crate) dir: &'a Path,
    /// Of Incus.
    pub(crate) socket: &'a Path,
    /// The program.
    pub(crate) nix: &'a str,
}

/// What was said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    said: BTreeMap<String, String>,
    /// How far the clock of the machine is ahead of this one's, in seconds, at least; negative when it is behind.
    pub(super) clock_ahead: f64,
    /// How long the whole answer took.
    pub(super) took: Duration,
}

impl Facts {
    /// Asks.
    pub(crate) fn gather(
        host: &dyn Host,
        environment: &Environment,
        asked: &Asked<'_>,
        cancel: &CancelToken,
    ) -> Result<Self, HostError> {
        let command = Command::new("/bin/sh").args(["-c", SCRIPT, "sh"]);
        let command = command.arg(asked.dir).arg(asked.socket).arg(asked.nix);
        let clock = SystemClock;
        let (before, started) = (seconds(clock.now()), clock.monotonic());
        let output = host.run(&command.env(environment.clone()), cancel)?;
        let (after, took) = (seconds(clock.now()), clock.monotonic().saturating_sub(started));
        let mut facts = Self::parse(&String::from_utf8_lossy(&output.stdout));
        facts.took = took;
        if facts.get("end").is_none() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no answer").to_owned();
            return Err(HostError::System(
                "cannot ask the machine for its facts",
                std::io::Error::other(said),
            ));
        }
        // What it said holds somewhere between the two, and for one second.
        if let Some(there) = facts.number("clock") {
            #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact in a double")]
            let there = there as f64;
            facts.clock_ahead = match () {
                () if there > after => there - after,
                () if there + 1.0 < before => there + 1.0 - before,
                () => 0.0,
            };
        }
        Ok(facts)
    }

    pub(crate) fn parse(text: &str) -> Self {
        let said = text.lines().filter_map(|line| line.split_once('='));
        let said = said.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        Self { said, ..Self::default() }
    }

    /// What was said of something, unless it was nothing.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.said.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    pub(crate) fn is_root(&self) -> bool {
        self.is("uid", "0")
    }

    pub(crate) fn account(&self) -> &str {
        self.get("account").unwrap_or("this account")
    }

    /// Files that the file system of the directory can still take, where it counts them.
    pub(crate) fn inodes(&self) -> Option<u64> {
        let (all, free) = self.get("inodes")?.split_once(' ')?;
        if all.parse() == Ok(0_u64) { None } else { free.parse().ok() }
    }

    /// Size of the file system of the directory, and what is free of it, in bytes.
    pub(crate) fn disk(&self) -> Option<(u64, u64)> {
        let (size, free) = self.get("disk")?.split_once(' ')?;
        let kib = |text: &str| text.trim().parse::<u64>().ok()?.checked_mul(1024);
        Some((kib(size)?, kib(free)?))
    }
}

fn seconds(time: chrono::DateTime<chrono::Utc>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact in a double")]
    let millis = time.timestamp_millis() as f64;
    millis / 1000.0
}
