//! Volumes that nobody needs any more: those that were brought to members of a cluster, and caches.

use std::time::Duration;

use chrono::{DateTime, Utc};
use pika_cloud::ops::{Incus, Labels, ListedVolume, OpsError};

use super::{caches, labels};

/// How long somebody may take between the use of a volume that was brought and the guest that sees it.
const BETWEEN: Duration = Duration::from_secs(3600);

/// A cache of another engine that nobody has used for so long goes whatever is asked for: that engine would have
/// collected it by now, and may be gone.
const OF_OTHERS: Duration = Duration::from_secs(14 * 24 * 3600);

/// Removes them, or says which would go. `whose` is project, profile and engine.
pub(crate) fn collect_volumes(
    incus: &Incus,
    whose: (&str, &str, &str),
    now: DateTime<Utc>,
    unused: Duration,
    dry_run: bool,
) -> Result<Vec<String>, OpsError> {
    let (project, profile, engine) = whose;
    let listed = incus.root_pool(project, profile).and_then(|pool| {
        // Of all members, whoever has brought them: they are named by their content.
        incus.list_volumes(project, &pool, &Labels::new())
    });
    let listed = match listed {
        // Nobody can have brought anything there.
        Err(OpsError::ProjectMissing { .. } | OpsError::ProfileMissing { .. }) => return Ok(Vec::new()),
        other => other?,
    };
    let own = caches::volumes_of(engine);
    let mut removed = Vec::new();
    for one in listed {
        let age = if one.labels.contains_key(&labels::key(labels::BROUGHT)) {
            BETWEEN
        } else if one.volume.name.starts_with(&own) {
            unused
        } else if caches::is_volume(&one.volume.name) {
            unused.max(OF_OTHERS)
        } else {
            continue;
        };
        if !is_unused(&one, now, age) {
            continue;
        }
        if !dry_run {
            incus.delete_volume_at(&one.volume)?;
        }
        let member = one.volume.member.map(|member| format!(" of member {member}"));
        removed.push(format!("{}{}", one.volume.name, member.unwrap_or_default()));
    }
    Ok(removed)
}

/// Whether no guest sees it and no job has used it for so long. One without a time is none of ours.
pub(super) fn is_unused(listed: &ListedVolume, now: DateTime<Utc>, age: Duration) -> bool {
    let used_at = listed.labels.get(&labels::key(labels::USED_AT));
    let used_at = used_at.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let since =
        |at: DateTime<chrono::FixedOffset>| now.signed_duration_since(at).to_std().unwrap_or_default();
    // A daemon tells whole seconds: of an age of nothing, what was used in this very one is unused too.
    listed.users == 0 && used_at.is_some_and(|at| since(at) >= age)
}

#[cfg(test)]
mod tests {
    use pika_cloud::ops::VolumeRef;

    use super::*;

    fn listed(users: usize, used_at: Option<&str>) -> ListedVolume {
        let labels = used_at.map(|at| ("user.jerichoci.used_at".to_owned(), at.to_owned()));
        ListedVolume {
            volume: VolumeRef {
                project: "p".into(),
                pool: "pool".into(),
                member: Some("n1".into()),
                name: "snapshot-1".into(),
            },
            labels: labels.into_iter().collect(),
            users,
        }
    }

    #[test]
    fn a_volume_goes_when_no_guest_sees_it_and_no_job_has_used_it_for_long() {
        let now = "2026-04-03T12:00:00Z".parse().unwrap();
        let day = Duration::from_secs(24 * 3600);
        let is_unused = |listed: &ListedVolume| is_unused(listed, now, day);
        assert!(is_unused(&listed(0, Some("2026-04-02T11:00:00Z"))));
        assert!(!is_unused(&listed(0, Some("2026-04-02T13:00:00Z"))));
        assert!(!is_unused(&listed(0, Some("2026-04-04T13:00:00Z"))), "of a clock that is ahead");
        assert!(!is_unused(&listed(1, Some("2026-04-01T11:00:00Z"))));
        assert!(!is_unused(&listed(0, None)), "somebody else's");
        assert!(!is_unused(&listed(0, Some("yesterday"))));
    }

    #[test]
    fn without_an_age_a_volume_goes_in_the_second_in_which_it_was_used() {
        let now = "2026-04-03T12:00:00Z".parse().unwrap();
        for at in ["2026-04-03T12:00:00Z", "2026-04-03T12:00:00.700Z"] {
            assert!(is_unused(&listed(0, Some(at)), now, Duration::ZERO), "{at}");
        }
    }
}
