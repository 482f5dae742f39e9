//! Field ownership of `/scale`: who owns the number of replicas of an object, as a Scale's owners and back. Entry points:
//! [`track_scale`], [`applied_scale`].

use api::ApiError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use super::{OneVersion, Wanted, owners_of, subresource};
use crate::write::managed_fields::{self, Entry, Fields, Held, Managed, Manager, Write};
use crate::write::{Place, Stored, apply};

const SCALE_VERSION: &str = "autoscaling/v1";
const SCALE_KIND: &str = "Scale";
const REPLICAS: &str = "spec.replicas";

const SCALE: &OneVersion<'static> = &OneVersion { version: SCALE_VERSION, kind: SCALE_KIND };

fn scale_write<'a>(at: &Place<'a>, ignored: &'a Fields) -> Write<'a> {
    let now = at.server.clock.now_seconds();
    Write {
        manager: at.manager,
        subresource: subresource(at),
        version: SCALE_VERSION,
        now,
        ignored,
        only: &[],
        kind: SCALE,
    }
}

/// Where the object keeps its number of replicas.
fn replicas_of(at: &Place<'_>) -> String {
    at.strategy.scale_paths().map_or_else(|| REPLICAS.to_owned(), |paths| paths.spec.join("."))
}

/// Who owns what of the object after its Scale became `new`.
pub(in crate::write) fn track_scale(
    at: &Place<'_>,
    parent: &Stored,
    old: &Value,
    new: &Value,
) -> Option<Vec<ManagedFieldsEntry>> {
    let owners = owners_of(Some(parent));
    let path = replicas_of(at);
    let scale = scale_owners(&owners, &path);
    if scale.is_empty() {
        return owners.encode();
    }
    let scale = managed_fields::update(old, new, scale, &scale_write(at, &Fields::default()));
    parent_owners(owners, scale, &at.info().api_version(), &path).encode()
}

/// The Scale after an apply, and who owns what of its object then.
pub(in crate::write) fn applied_scale(
    at: &Place<'_>,
    parent: &Stored,
    old: Value,
    wanted: &Wanted,
) -> Result<(Value, Option<Vec<ManagedFieldsEntry>>), ApiError> {
    at.warnings.extend(wanted.duplicates.iter().cloned());
    let owners = owners_of(Some(parent));
    let none = Fields::default();
    let path = replicas_of(at);
    let applied =
        apply::apply(&old, scale_owners(&owners, &path), &wanted.config(SCALE_KIND), &scale_write(at, &none))?;
    let owners = parent_owners(owners, applied.managed, &at.info().api_version(), &path);
    Ok((applied.object.unwrap_or(old), owners.encode()))
}

/// The owners of a Scale: those who own the number of replicas of its object.
fn scale_owners(parent: &Managed, replicas: &str) -> Managed {
    let mut scale = Managed::default();
    for entry in parent.entries().iter().filter(|entry| entry.fields.read().has_path(replicas)) {
        let version = if entry.manager.applies { "" } else { SCALE_VERSION };
        let manager = Manager { version: version.to_owned(), ..entry.manager.clone() };
        scale.insert(Entry {
            manager,
            version: SCALE_VERSION.to_owned(),
            fields: Fields::of_paths([REPLICAS]).into(),
            time: entry.time,
        });
    }
    scale
}

/// The owners of an object, given those of its Scale.
fn parent_owners(mut parent: Managed, mut scale: Managed, version: &str, path: &str) -> Managed {
    let replicas = Fields::of_paths([path]);
    scale.retain(|entry| entry.fields.read().has_path(REPLICAS));
    parent.retain(|entry| {
        if entry.fields.read().has_path(path) {
            let version = if entry.manager.applies { "" } else { SCALE_VERSION };
            let manager = Manager { version: version.to_owned(), ..entry.manager.clone() };
            if scale.take(&manager).is_none() {
                entry.fields.subtract(&replicas);
            }
        }
        true
    });
    for entry in scale.entries() {
        let own = if entry.manager.applies { "" } else { version };
        let manager = Manager { version: own.to_owned(), ..entry.manager.clone() };
        // Upstream notes no time for them, unless the manager had an entry before.
        let time = parent.get(&manager).and_then(|entry| entry.time);
        parent.insert(Entry { manager, version: version.to_owned(), fields: Held::from(replicas.clone()), time });
    }
    parent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::managed_fields::tests::{owners, second};
    use serde_json::json;

    fn parent() -> Managed {
        let mut managed = Managed::default();
        managed.grant(
            Manager::updater("twin", "v1", ""),
            "v1",
            Fields::of_paths(["spec.replicas", "spec.selector"]),
            second(1),
        );
        managed
    }

    #[test]
    fn replicas_change_hands_through_the_scale() {
        let scale = scale_owners(&parent(), REPLICAS);
        assert_eq!(scale.entries()[0].version, SCALE_VERSION);
        assert_eq!(parent_owners(parent(), scale, "v1", REPLICAS), parent(), "an unchanged Scale changes no owner");
        let mut taken = Managed::default();
        taken.grant(
            Manager::updater("hand", SCALE_VERSION, "scale"),
            SCALE_VERSION,
            Fields::of_paths([REPLICAS]),
            second(2),
        );
        let after = parent_owners(parent(), taken, "v1", REPLICAS);
        assert_eq!(
            owners(&after),
            json!({"twin": {"f:spec": {"f:selector": {}}}, "hand/scale": {"f:spec": {"f:replicas": {}}}})
        );
        assert!(after.entries().iter().all(|entry| entry.version == "v1"));
    }
}
